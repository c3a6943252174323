//! Providers of text messages and calls that are asked by HTTP.

//! Text messages and calls through providers that are asked by HTTP.

//! Message centres that speak SMPP.

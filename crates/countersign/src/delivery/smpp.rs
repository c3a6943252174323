//! Text messages through message centres that speak SMPP 3.4.

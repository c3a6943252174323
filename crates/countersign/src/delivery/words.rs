//! The words of messages, in the language of whom they go to.

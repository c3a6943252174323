//! Takes messages from the outbox and brings them to a provider.

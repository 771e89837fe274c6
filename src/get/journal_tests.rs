//! Slots: what is written is read, and nothing else.

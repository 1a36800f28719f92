//! trunkline's broker over Redis Streams.

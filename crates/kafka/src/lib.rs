//! trunkline's broker over Apache Kafka.

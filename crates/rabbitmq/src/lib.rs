//! trunkline's broker over RabbitMQ.

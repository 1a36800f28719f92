//! Which server.

use std::fmt;
use std::str::FromStr;

use crate::error::LaunchError;

/// A server that can be started.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Redis, with an append-only file.
    Redis,
    /// One Kafka node that is broker and controller.
    Kafka,
    /// One RabbitMQ node.
    RabbitMq,
    /// PostgreSQL.
    Postgres,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Redis, Self::Kafka, Self::RabbitMq, Self::Postgres];

    /// The name, as [`FromStr`] reads it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Redis => "redis",
            Self::Kafka => "kafka",
            Self::RabbitMq => "rabbitmq",
            Self::Postgres => "postgres",
        }
    }

    /// The port that this server usually listens on.
    #[must_use]
    pub const fn usual_port(self) -> u16 {
        match self {
            Self::Redis => 6379,
            Self::Kafka => 9092,
            Self::RabbitMq => 5672,
            Self::Postgres => 5432,
        }
    }

    /// Where a client finds it on this machine.
    pub(crate) fn url(self, port: u16) -> String {
        match self {
            Self::Redis => format!("redis://127.0.0.1:{port}/0"),
            Self::Kafka => format!("kafka://127.0.0.1:{port}"),
            Self::RabbitMq => format!("amqp://guest:guest@127.0.0.1:{port}/%2f"),
            Self::Postgres => format!("postgres://trunkline:trunkline@127.0.0.1:{port}/trunkline"),
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Kind {
    type Err = LaunchError;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|kind| kind.name() == name).ok_or_else(|| {
            LaunchError::new(format!(
                "there is no server `{name}`; the names are redis, kafka, rabbitmq, postgres"
            ))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_reads_back() {
        for kind in Kind::ALL {
            assert_eq!(kind.to_string().parse::<Kind>().unwrap(), kind);
        }
        let error = "redi".parse::<Kind>().unwrap_err().to_string();
        assert!(error.contains("redis, kafka, rabbitmq, postgres"), "{error}");
    }
}

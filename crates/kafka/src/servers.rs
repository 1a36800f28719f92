//! The URL of Kafka: the servers that a client asks first.

use trunkline_core::Result;

use crate::config::config_error;

/// The servers that a URL names, as librdkafka has them.
pub(crate) fn of(url: &str) -> Result<String> {
    const FORM: &str = "the URL of Kafka is `kafka://host:9092,host2:9092`";
    let Some(rest) = url.strip_prefix("kafka://") else {
        return Err(config_error(FORM));
    };
    if rest.contains('@') {
        let message = "the URL of Kafka holds no credentials: set the properties `sasl.username` and \
                       `sasl.password`";
        return Err(config_error(message));
    }
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    let servers: Vec<String> = rest
        .split(',')
        .map(server_of)
        .collect::<Option<_>>()
        .ok_or_else(|| config_error(FORM).with("found", format!("kafka://{rest}")))?;
    Ok(servers.join(","))
}

/// One server with its port, 9092 where it names none.
fn server_of(server: &str) -> Option<String> {
    let plain = |c: char| c.is_alphanumeric() || matches!(c, '.' | '-' | '_' | ':' | '[' | ']');
    if server.is_empty() || !server.chars().all(plain) {
        return None;
    }
    let port = server.rsplit_once(':').filter(|(host, _)| !host.is_empty()).map(|(_, port)| port);
    match port {
        Some(port) if !port.ends_with(']') => port.parse::<u16>().ok().map(|_| server.to_owned()),
        _ => Some(format!("{server}:9092")),
    }
}

#[cfg(test)]
mod tests {
    use trunkline_core::ErrorKind;

    use super::*;

    #[test]
    fn a_url_names_one_or_more_servers() {
        assert_eq!(of("kafka://a:1,b").unwrap(), "a:1,b:9092");
        assert_eq!(of("kafka://[::1]:9093/").unwrap(), "[::1]:9093");
        for bad in ["", "redis://a", "kafka://", "kafka://a,,b", "kafka://a:x", "kafka://a/b"] {
            assert_eq!(of(bad).unwrap_err().kind(), ErrorKind::Config, "{bad}");
        }
        let secret = of("kafka://user:hunter2@a").unwrap_err();
        assert!(!format!("{secret} {secret:?}").contains("hunter2"));
    }
}

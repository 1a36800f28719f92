//! Where the primary is: at the URL's own address, or where sentinels or a cluster say.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use redis::{
    AsyncConnectionConfig, Client, Cmd, ConnectionAddr, ConnectionInfo, IntoConnectionInfo as _,
    Pipeline, RedisConnectionInfo, RedisError, TlsCertificates, Value,
};
use trunkline_core::{Error, ErrorKind, Result};

use crate::codec::{array_of, int_of, text_of};

/// How long one sentinel or node may take to say where the primary is; then the next is asked.
const PATIENCE: Duration = Duration::from_secs(1);

/// Who knows where the primary is.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Source {
    Direct,
    Sentinel { service: String },
    Cluster,
}

/// What the URL names; it is asked again before each connection.
#[derive(Clone)]
pub(crate) struct Target {
    source: Source,
    /// The server itself, the sentinels, or some nodes of the cluster; each with the credentials and
    /// the database of the server.
    hosts: Vec<ConnectionInfo>,
    /// Who is asked first: another each time, so that one that is behind the others, or cut off from
    /// them, is not believed for ever.
    turn: Arc<AtomicUsize>,
}

impl Target {
    pub(crate) fn parse(url: &str) -> Result<Self> {
        let (scheme, rest) = url.split_once("://").unwrap_or_default();
        let (base, source) = scheme.split_once('+').unwrap_or((scheme, ""));
        let (source, hosts) = match source {
            "sentinel" => sentinels_of(base, rest)?,
            "cluster" => seeds_of(base, rest)?,
            _ => (Source::Direct, vec![host_of(url)?]),
        };
        Ok(Self { source, hosts, turn: Arc::default() })
    }

    /// Lets TLS trust these certificates alone, in PEM.
    pub(crate) fn trust(&mut self, pem: &str) -> Result<()> {
        // The driver takes a text without any for a trust in nobody.
        if !pem.contains("-----BEGIN CERTIFICATE-----") {
            return Err(invalid("there is no certificate in PEM to trust"));
        }
        for host in &mut self.hosts {
            let certificates =
                TlsCertificates { client_tls: None, root_cert: Some(pem.as_bytes().to_vec()) };
            let client = Client::build_with_tls(host.clone(), certificates).map_err(|error| {
                let message = "certificates to trust want a URL with rediss:// and sound PEM";
                invalid(message).because(error)
            })?;
            *host = client.get_connection_info().clone();
        }
        Ok(())
    }

    pub(crate) fn is_cluster(&self) -> bool {
        self.source == Source::Cluster
    }

    /// The addresses of the URL, without credentials.
    pub(crate) fn address(&self) -> String {
        let addresses: Vec<_> = self.hosts.iter().map(|host| host.addr().to_string()).collect();
        let addresses = addresses.join(",");
        match &self.source {
            Source::Direct => addresses,
            Source::Sentinel { service } => format!("{addresses} (sentinels of {service})"),
            Source::Cluster => format!("{addresses} (cluster)"),
        }
    }

    pub(crate) fn database(&self) -> i64 {
        self.hosts[0].redis_settings().db()
    }

    /// The server that is the primary by now, in a cluster that of the slot of `key`.
    pub(crate) async fn primary(
        &self,
        key: &str,
    ) -> std::result::Result<ConnectionInfo, RedisError> {
        if self.source == Source::Direct {
            return Ok(self.hosts[0].clone());
        }
        let first = self.turn.fetch_add(1, Ordering::Relaxed) % self.hosts.len();
        let (before, after) = self.hosts.split_at(first);
        let mut failed = None;
        for host in after.iter().chain(before) {
            let found = match &self.source {
                Source::Sentinel { service } => ask_sentinel(host, service).await,
                _ => ask_node(host, key).await,
            };
            match found {
                Ok((name, port)) => return Ok(at(host, name, port)),
                Err(error) => {
                    tracing::debug!(address = %host.addr(), %error, "did not name the primary");
                    failed = Some(error);
                }
            }
        }
        Err(failed.unwrap_or_else(|| unknown("nobody is there to name the primary".to_owned())))
    }

    /// Asks a new connection whether it is to the primary; an answer that is an error says no.
    pub(crate) fn add_check(&self, setup: &mut Pipeline, key: &str) {
        match self.source {
            Source::Direct => {}
            Source::Sentinel { .. } => drop(setup.cmd("ROLE")),
            // Another node refuses it, and so does the right one while the cluster is down.
            Source::Cluster => drop(setup.cmd("TYPE").arg(key)),
        }
    }
}

/// Whether an answer of the checks says that the server is no primary.
pub(crate) fn check(answer: &Value) -> std::result::Result<(), RedisError> {
    match answer {
        Value::Array(role)
            if role.first().cloned().and_then(text_of).as_deref() != Some("master") =>
        {
            Err(unknown("the server that the sentinels name is no primary yet".to_owned()))
        }
        _ => Ok(()),
    }
}

async fn ask_sentinel(
    host: &ConnectionInfo,
    service: &str,
) -> std::result::Result<(String, u16), RedisError> {
    let mut question = redis::cmd("SENTINEL");
    question.arg("GET-MASTER-ADDR-BY-NAME").arg(service);
    // Credentials are those of the server; a sentinel that wants some gets the same.
    let login = host.redis_settings().clone().set_db(0);
    let open = RedisConnectionInfo::default().set_protocol(login.protocol());
    let answer = match ask(host.clone().set_redis_settings(open), &question).await {
        Err(error) if error.code() == Some("NOAUTH") => {
            ask(host.clone().set_redis_settings(login), &question).await?
        }
        answer => answer?,
    };
    let mut parts = array_of(answer).unwrap_or_default().into_iter().filter_map(text_of);
    match (parts.next(), parts.next().and_then(|port| port.parse().ok())) {
        (Some(name), Some(port)) => Ok((name, port)),
        _ => Err(unknown(format!("the sentinel knows no service `{service}`"))),
    }
}

async fn ask_node(
    host: &ConnectionInfo,
    key: &str,
) -> std::result::Result<(String, u16), RedisError> {
    let slot = int_of(&ask(host.clone(), redis::cmd("CLUSTER").arg("KEYSLOT").arg(key)).await?);
    let slots = ask(host.clone(), redis::cmd("CLUSTER").arg("SLOTS")).await?;
    let ranges = array_of(slots).unwrap_or_default().into_iter().filter_map(array_of);
    let mut nodes = ranges.filter_map(|range| {
        let mut parts = range.into_iter();
        let (first, last) = (int_of(&parts.next()?)?, int_of(&parts.next()?)?);
        (first..=last).contains(&slot?).then(|| parts.next().and_then(array_of))?
    });
    let node = nodes.next().unwrap_or_default();
    let port = node.get(1).and_then(int_of).and_then(|port| u16::try_from(port).ok());
    let port = port.ok_or_else(|| unknown("no node of the cluster has the slot".to_owned()))?;
    // A node that does not know its own name leaves it to the one that asks.
    let name = node.into_iter().next().and_then(text_of);
    let name = name.filter(|name| !name.is_empty() && name != "?");
    Ok((name.unwrap_or_else(|| name_of(host.addr())), port))
}

/// One question on a connection of its own.
async fn ask(host: ConnectionInfo, question: &Cmd) -> std::result::Result<Value, RedisError> {
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(PATIENCE))
        .set_response_timeout(Some(PATIENCE));
    let client = Client::open(host)?;
    let mut connection = client.get_multiplexed_async_connection_with_config(&config).await?;
    connection.send_packed_command(question).await?.extract_error()
}

/// A failure that another attempt may not meet.
fn unknown(text: String) -> RedisError {
    io::Error::new(io::ErrorKind::NotConnected, text).into()
}

/// The same way of connecting, to another server.
fn at(host: &ConnectionInfo, name: String, port: u16) -> ConnectionInfo {
    let mut addr = host.addr().clone();
    if let ConnectionAddr::Tcp(host, number) | ConnectionAddr::TcpTls { host, port: number, .. } =
        &mut addr
    {
        (*host, *number) = (name, port);
    }
    host.clone().set_addr(addr)
}

fn name_of(addr: &ConnectionAddr) -> String {
    match addr {
        ConnectionAddr::Tcp(host, _) | ConnectionAddr::TcpTls { host, .. } => host.clone(),
        _ => String::new(),
    }
}

/// What stands behind the scheme of a URL.
struct Parts<'a> {
    /// `user:password@`, or nothing.
    login: &'a str,
    hosts: &'a str,
    path: &'a str,
    /// `?protocol=…`, `#insecure`: for the driver.
    tail: &'a str,
}

impl<'a> Parts<'a> {
    fn of(rest: &'a str) -> Self {
        let login = rest.rfind('@').map_or(0, |at| at + 1);
        let (login, rest) = rest.split_at(login);
        let (rest, tail) = rest.split_at(rest.find(['?', '#']).unwrap_or(rest.len()));
        let (hosts, path) = rest.split_once('/').unwrap_or((rest, ""));
        Self { login, hosts, path, tail }
    }

    fn hosts(&self, base: &str, port: u16, database: &str) -> Result<Vec<ConnectionInfo>> {
        let Self { login, tail, .. } = self;
        let hosts = self.hosts.split(',').map(|host| {
            // The colons of an IPv6 address stand in brackets.
            let has_port = host.rsplit(']').next().is_some_and(|end| end.contains(':'));
            let port = if has_port { String::new() } else { format!(":{port}") };
            host_of(&format!("{base}://{login}{host}{port}/{database}{tail}"))
        });
        hosts.collect()
    }
}

fn sentinels_of(base: &str, rest: &str) -> Result<(Source, Vec<ConnectionInfo>)> {
    let parts = Parts::of(rest);
    let (service, database) = parts.path.split_once('/').unwrap_or((parts.path, ""));
    if service.is_empty() {
        return Err(invalid(
            "the URL names no service: redis+sentinel://[user:password@]host[:26379][,host…]\
             /service[/database]",
        ));
    }
    let hosts = parts.hosts(base, 26_379, database)?;
    Ok((Source::Sentinel { service: service.to_owned() }, hosts))
}

fn seeds_of(base: &str, rest: &str) -> Result<(Source, Vec<ConnectionInfo>)> {
    let parts = Parts::of(rest);
    if !matches!(parts.path, "" | "0") {
        return Err(invalid(
            "a cluster has no database but 0: redis+cluster://[user:password@]host[:6379][,host…]",
        ));
    }
    Ok((Source::Cluster, parts.hosts(base, 6_379, "")?))
}

fn host_of(url: &str) -> Result<ConnectionInfo> {
    // The driver's own text may quote the URL, and that may hold a password.
    let wrong = || {
        invalid(
            "the URL is not redis://[user:password@]host[:port][/database], nor with rediss://, \
             redis+sentinel:// or redis+cluster://",
        )
    };
    let host = url.into_connection_info().ok().ok_or_else(wrong)?;
    match host.addr() {
        ConnectionAddr::Tcp(..) | ConnectionAddr::TcpTls { .. } => Ok(host),
        _ => Err(wrong()),
    }
}

fn invalid(message: &'static str) -> Error {
    Error::new(ErrorKind::Config, "configure redis", message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sentinels_and_seeds_are_read_with_what_the_server_wants() {
        let target = Target::parse("redis+sentinel://ann:p%40w@a:1,[::1],c/main/2").unwrap();
        assert_eq!(target.address(), "a:1,::1:26379,c:26379 (sentinels of main)");
        assert_eq!(target.database(), 2);
        assert_eq!(target.hosts[2].redis_settings().password(), Some("p@w"));
        let target = Target::parse("rediss+cluster://:pw@a:7000,b?protocol=resp3").unwrap();
        assert!(target.is_cluster());
        assert_eq!(target.address(), "a:7000,b:6379 (cluster)");
        assert!(matches!(target.hosts[1].addr(), ConnectionAddr::TcpTls { .. }));
        assert_eq!(target.hosts[1].redis_settings().password(), Some("pw"));
    }

    #[test]
    fn another_server_is_reached_in_the_same_way() {
        let target = Target::parse("rediss+sentinel://ann:pw@a/main").unwrap();
        let found = at(&target.hosts[0], "b".to_owned(), 7);
        assert!(
            matches!(found.addr(), ConnectionAddr::TcpTls { host, port: 7, .. } if host == "b")
        );
        assert_eq!(found.redis_settings().username(), Some("ann"));
    }

    #[test]
    fn what_is_wrong_is_said_without_the_url() {
        for url in [
            "redis+sentinel://ann:hunter2@a",
            "redis+sentinel://ann:hunter2@a/main/x",
            "redis+sentinel://ann:hunter2@/main",
            "redis+cluster://ann:hunter2@a/1",
            "redis+cluster://ann:hunter2@a,,b",
            "redis-sentinel://ann:hunter2@a/main",
            "http+cluster://ann:hunter2@a",
        ] {
            let error = Target::parse(url).map(|target| target.address()).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Config, "{url}");
            assert!(!format!("{error:?}").contains("hunter2"), "{error:?}");
        }
    }
}

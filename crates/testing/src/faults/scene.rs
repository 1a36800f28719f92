//! What a fault property has: brokers that stand for processes, members that are processes, a server.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use futures_util::future::BoxFuture;
use tokio::time::Instant;
use trunkline_core::{Broker, Capabilities, Topic};
use trunkline_launcher::Server;

use super::arena::Maker;
use super::variation::Variation;
use crate::broker::{BrokerConditions, SOON, Subject};
use crate::failure::{Check, Failure};
use crate::fixture::Fixture;
use crate::ground::close_at_end;
use crate::member::{Orders, Role};
use crate::proxy::Proxy;
use crate::server::LiveServer;

/// How long to wait before an address is tried again.
const AGAIN: std::time::Duration = std::time::Duration::from_millis(20);

/// What a fault property has to work with.
pub(crate) struct Scene<B> {
    label: String,
    expected: Capabilities,
    conditions: BrokerConditions,
    make: Maker<B>,
    server: Option<Arc<Server>>,
    variation: Variation,
    first: OnceLock<Subject<B>>,
    endings: Endings,
}

/// What is to be done when the property has ended.
#[derive(Clone, Default)]
pub(super) struct Endings(Arc<Mutex<Vec<BoxFuture<'static, Check>>>>);

impl Endings {
    fn add(&self, endings: Vec<BoxFuture<'static, Check>>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend(endings);
    }

    pub(super) async fn run(self) -> Check {
        let endings = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        let mut outcome = Ok(());
        for ending in endings {
            outcome = outcome.and(ending.await);
        }
        outcome
    }
}

impl<B: Broker> Scene<B> {
    pub(super) fn new(
        label: String,
        expected: Capabilities,
        conditions: BrokerConditions,
        make: Maker<B>,
        server: Option<Arc<Server>>,
        variation: Variation,
    ) -> Self {
        let (first, endings) = (OnceLock::new(), Endings::default());
        Self { label, expected, conditions, make, server, variation, first, endings }
    }

    /// Which timing of the fault this run has.
    pub(crate) fn variation(&self) -> Variation {
        self.variation
    }

    pub(super) fn endings(&self) -> Endings {
        self.endings.clone()
    }

    /// A broker of its own, as another process would have; all of a scene share topics and groups.
    pub(crate) async fn process(&self) -> Result<Subject<B>, Failure> {
        self.process_under(self.conditions.clone()).await
    }

    /// The same, which reaches the server by another address.
    pub(crate) async fn process_at(&self, url: String) -> Result<Subject<B>, Failure> {
        self.process_under(BrokerConditions { url: Some(url), ..self.conditions.clone() }).await
    }

    /// Only the broker, which may be refused; nothing of it is cleaned up.
    pub(crate) async fn make_at(&self, url: String) -> trunkline_core::Result<B> {
        let conditions = BrokerConditions { url: Some(url), ..self.conditions.clone() };
        Ok((self.make)(conditions).await?.subject)
    }

    async fn process_under(&self, conditions: BrokerConditions) -> Result<Subject<B>, Failure> {
        let made = (self.make)(conditions).await.map_err(Failure::unmade)?;
        let made = close_at_end(made);
        let Fixture { subject, kept, hooks, mut endings } = made;
        if self.server.is_some() {
            // Whether its own server can be cleaned up, and through a proxy that is gone, says nothing.
            let cleaning = endings.split_off(1);
            self.endings.add(endings);
            self.endings.add(cleaning.into_iter().map(regardless).collect());
        } else {
            self.endings.add(endings);
        }
        self.endings.add(vec![Box::pin(async move {
            drop(kept);
            Ok(())
        })]);
        let subject = Subject::of(subject, self.expected.clone(), hooks);
        let first = self.first.get_or_init(|| subject.clone());
        Ok(subject.beside(first))
    }

    /// What a member in another process is told by default: a bus whose handlers take 2 ms.
    pub(crate) fn orders(
        &self,
        subject: &Subject<B>,
        group: &str,
        topic: &Topic,
    ) -> Result<Orders, Failure> {
        Ok(Orders {
            label: self.label.clone(),
            url: self.url().to_owned(),
            prefix: self.conditions.prefix.clone(),
            role: Role::Bus,
            group: subject.group(group)?.to_string(),
            topics: vec![topic.to_string()],
            handle_ms: 2,
            holds: 0..0,
            fails_first: false,
            retry_ms: 0,
            concurrency: 8,
            prefetch: 64,
            close_ms: 10_000,
        })
    }

    /// The server that this property may kill.
    pub(crate) fn server(&self) -> Result<LiveServer, Failure> {
        let server = self.server.as_ref().map(|server| LiveServer::from(Arc::clone(server)));
        server.ok_or_else(|| Failure::new("this property has no server of its own"))
    }

    /// A proxy in front of that server, and a broker that reaches the server through it.
    pub(crate) async fn process_behind_proxy(&self) -> Result<(Proxy, Subject<B>), Failure> {
        let place = self.server()?.proxied();
        let deadline = Instant::now() + SOON;
        let proxy = loop {
            match Proxy::start(place.listen, place.upstream).await {
                Ok(proxy) => break proxy,
                // The proxy of the property before may still be leaving.
                Err(_) if Instant::now() < deadline => tokio::time::sleep(AGAIN).await,
                Err(cause) => {
                    return Err(Failure::new(format!("the proxy does not start: {cause}")));
                }
            }
        };
        Ok((proxy, self.process_at(place.url).await?))
    }

    /// Where the server is.
    pub(crate) fn url(&self) -> &str {
        self.conditions.url.as_deref().unwrap_or_default()
    }
}

/// The same, whatever comes of it.
fn regardless(ending: BoxFuture<'static, Check>) -> BoxFuture<'static, Check> {
    Box::pin(async move {
        drop(tokio::time::timeout(SOON, ending).await);
        Ok(())
    })
}

//! Where the brokers of a suite find their server, if they need one.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use trunkline_core::{Broker, Capabilities, Error, ErrorKind, EventId, Result};
use trunkline_launcher::{Kind, Server};

use crate::broker::{BrokerConditions, Subject};
use crate::failure::{Check, Failure};
use crate::fixture::Fixture;
use crate::property::{SERVER_TIME_LIMIT, TIME_LIMIT};

/// The password that no text of a broker may show. Fixtures of backends whose URL holds none may give it
/// to their brokers in another way.
pub(crate) const PASSWORD: &str = "hunter2-is-secret";

/// How long the broker of a property may take to close.
const CLOSE: Duration = Duration::from_secs(10);

/// How long what must not happen is looked for on a server.
const SERVER_QUIET: Duration = Duration::from_millis(300);

/// Within this process, or on a server that is shared by the properties of one test binary.
#[derive(Debug)]
pub(crate) struct Ground {
    kind: Option<Kind>,
    server: Mutex<Option<Server>>,
}

impl Ground {
    /// For brokers that need no server.
    pub(crate) fn in_process() -> Self {
        Self { kind: None, server: Mutex::new(None) }
    }

    /// For brokers on a server of this kind, which is started when it is first needed.
    pub(crate) fn on(kind: Kind) -> Self {
        Self { kind: Some(kind), server: Mutex::new(None) }
    }

    pub(crate) fn kind(&self) -> Option<Kind> {
        self.kind
    }

    /// How long a property may take here.
    pub(crate) fn limit(&self) -> Duration {
        if self.kind.is_some() { SERVER_TIME_LIMIT } else { TIME_LIMIT }
    }

    /// How long what must not happen is looked for, where it is not the default.
    pub(crate) fn quiet(&self) -> Option<Duration> {
        self.kind.map(|_| SERVER_QUIET)
    }

    /// Adds the server's address and a prefix of its own; starts the server when it is not there.
    pub(crate) fn place(&self, conditions: BrokerConditions) -> Result<BrokerConditions> {
        let Some(kind) = self.kind else { return Ok(conditions) };
        let mut server = self.server.lock().unwrap_or_else(PoisonError::into_inner);
        let url = match &*server {
            Some(running) => running.url(),
            None => server.insert(start(kind)?).url(),
        };
        Ok(placed(conditions, with_password(kind, &url)))
    }

    /// The subject of a property, to be closed at its end where others use the server after it.
    pub(crate) fn prepare<B: Broker>(
        &self,
        made: Fixture<B>,
        expected: Capabilities,
    ) -> Fixture<Subject<B>> {
        let made = match self.kind {
            Some(_) => close_at_end(made),
            None => made.map(|broker, _| Arc::new(broker)),
        };
        made.map(|broker, hooks| Subject::of(broker, expected, hooks))
    }

    /// Ends the server.
    pub(crate) fn stop(&self) {
        drop(self.server.lock().unwrap_or_else(PoisonError::into_inner).take());
    }
}

pub(crate) fn start(kind: Kind) -> Result<Server> {
    Server::start(kind)
        .map_err(|cause| Error::new(ErrorKind::Backend, "start the server", cause.to_string()))
}

/// The conditions with this address and a prefix that no other property has.
pub(crate) fn placed(mut conditions: BrokerConditions, url: String) -> BrokerConditions {
    conditions.url = Some(url);
    conditions.prefix = fresh_prefix();
    conditions
}

/// The address with a password, where a server without users takes any: so it can be seen to leak.
fn with_password(kind: Kind, url: &str) -> String {
    match kind {
        Kind::Redis => url.replacen("://", &format!("://default:{PASSWORD}@"), 1),
        _ => url.to_owned(),
    }
}

fn fresh_prefix() -> String {
    let id = EventId::generate().to_string();
    // The last part is the random one; the others tell only the time.
    format!("t-{}-", id.rsplit('-').next().unwrap_or(&id))
}

/// Closes the broker when its property has ended, and removes its groups where the factory says no
/// better way to clean the server.
pub(crate) fn close_at_end<B: Broker>(mut fixture: Fixture<B>) -> Fixture<Arc<B>> {
    let has_own_way = !fixture.endings.is_empty();
    let own = std::mem::take(&mut fixture.endings);
    let mut fixture = fixture.map(|broker, _| Arc::new(broker));
    let broker = Arc::clone(&fixture.subject);
    fixture.endings.push(Box::pin(async move {
        if !has_own_way {
            remove_groups(&*broker).await;
        }
        close(&*broker).await
    }));
    fixture.endings.extend(own);
    fixture
}

/// Best effort: a property may have closed its broker, or left a member that is still leaving.
async fn remove_groups<B: Broker>(broker: &B) {
    let Some(admin) = broker.admin() else { return };
    let listed = tokio::time::timeout(CLOSE, admin.groups()).await;
    let Ok(Ok(groups)) = listed else { return };
    for group in groups {
        drop(tokio::time::timeout(CLOSE, admin.delete_group(&group.name)).await);
    }
}

async fn close<B: Broker>(broker: &B) -> Check {
    match tokio::time::timeout(CLOSE + Duration::from_secs(1), broker.close(CLOSE)).await {
        Ok(closed) => Ok(closed?),
        Err(_) => Err(Failure::new(format!("close has not ended a second after its {CLOSE:?}"))),
    }
}

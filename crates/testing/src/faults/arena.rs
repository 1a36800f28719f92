//! Where fault properties of one label run.

use std::sync::{Arc, Mutex, PoisonError};

use futures_util::future::BoxFuture;
use trunkline_core::{Broker, Capabilities, Result};
use trunkline_launcher::Server;

use super::property::Whose;
use super::variation::{Variation, variations};
use super::{FaultProperty, Scene};
use crate::broker::{BrokerConditions, BrokerProperty, QUIET};
use crate::failure::{Check, Failure};
use crate::fixture::Fixture;
use crate::ground::{self, Ground};
use crate::property::{FAULT_TIME_LIMIT, run_alone};

/// Makes a broker of one label.
pub(super) type Maker<B> =
    Arc<dyn Fn(BrokerConditions) -> BoxFuture<'static, Result<Fixture<B>>> + Send + Sync>;

/// What takes the time of a property: not its wait for others.
pub(crate) type Timed<'a> = Box<dyn FnOnce() -> Check + 'a>;

/// Where fault properties of one label run.
pub(crate) struct Arena<B> {
    label: String,
    expected: Capabilities,
    ground: Arc<Ground>,
    make: Maker<B>,
    lanes: Lanes,
}

/// One property at a time kills clients of the server of all, and one at a time kills its own server.
#[derive(Debug, Clone)]
pub(crate) struct Lanes {
    pub(crate) clients: Arc<Mutex<()>>,
    pub(crate) server: Arc<OwnServer>,
}

/// Where one run of a property is: the server, and that it may kill it.
type Place = (BrokerConditions, Option<Arc<Server>>);

/// The server that one property at a time may kill.
pub(crate) type OwnServer = Mutex<Option<Arc<Server>>>;

impl<B> Clone for Arena<B> {
    fn clone(&self) -> Self {
        Self {
            label: self.label.clone(),
            expected: self.expected.clone(),
            ground: Arc::clone(&self.ground),
            make: Arc::clone(&self.make),
            lanes: self.lanes.clone(),
        }
    }
}

impl<B: Broker> Arena<B> {
    pub(crate) fn new<F, Fut>(
        label: &str,
        expected: &Capabilities,
        ground: Arc<Ground>,
        lanes: Lanes,
        factory: Arc<F>,
    ) -> Self
    where
        F: Fn(BrokerConditions) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Fixture<B>>> + Send + 'static,
    {
        Self {
            label: label.to_owned(),
            expected: expected.clone(),
            ground,
            make: Arc::new(move |conditions| Box::pin(factory(conditions))),
            lanes,
        }
    }

    /// Puts a property that is about no fault to the test, as [`crate::Suite::broker`] does.
    pub(crate) fn check_bare(&self, property: BrokerProperty<B>) -> Check {
        let (ground, make) = (Arc::clone(&self.ground), Arc::clone(&self.make));
        let expected = self.expected.clone();
        let factory = move |conditions| {
            let making = ground.place(conditions).map(|placed| make(placed));
            async move { Ok(ground.prepare(making?.await?, expected)) }
        };
        let check = property.into_inner().checked(factory);
        match self.ground.quiet() {
            Some(quiet) => run_alone(self.ground.limit(), QUIET.scope(quiet, check)),
            None => run_alone(self.ground.limit(), check),
        }
    }

    /// Puts a property to the test when it is its turn, in each of its variations; `time` is given what
    /// takes its time.
    pub(crate) fn check(
        &self,
        property: &FaultProperty<B>,
        time: impl FnOnce(Timed<'_>) -> Check,
    ) -> Check {
        match property.server {
            Whose::Everybody => {
                let _alone = self.lanes.clients.lock().unwrap_or_else(PoisonError::into_inner);
                time(Box::new(|| {
                    self.vary(property, || {
                        Ok((self.ground.place(BrokerConditions::default())?, None))
                    })
                }))
            }
            Whose::Its => self.check_on_own_server(property, time),
        }
    }

    fn check_on_own_server(
        &self,
        property: &FaultProperty<B>,
        time: impl FnOnce(Timed<'_>) -> Check,
    ) -> Check {
        let no_kind = || Failure::new("faults of a server need `Suite::on` before them");
        let kind = self.ground.kind().ok_or_else(no_kind)?;
        let mut own = self.lanes.server.lock().unwrap_or_else(PoisonError::into_inner);
        let server = match own.take() {
            Some(server) => server,
            None => Arc::new(ground::start(kind).map_err(Failure::unmade)?),
        };
        let checked = time(Box::new(|| {
            self.vary(property, || {
                let conditions = ground::placed(BrokerConditions::default(), server.url());
                Ok((conditions, Some(Arc::clone(&server))))
            })
        }));
        // One that a failed property left dead or paused would fail the next one too.
        if checked.is_ok() {
            *own = Some(server);
        }
        checked
    }

    /// Runs every variation that is asked for, each with names of its own.
    fn vary(&self, property: &FaultProperty<B>, place: impl Fn() -> Result<Place>) -> Check {
        let count = if property.varies { variations() } else { 1 };
        for variation in (0..).map(Variation::new).take(count) {
            let (conditions, server) = place().map_err(Failure::unmade)?;
            self.run(property, variation, conditions, server)
                .map_err(|failure| failure.after(variation))?;
        }
        Ok(())
    }

    fn run(
        &self,
        property: &FaultProperty<B>,
        variation: Variation,
        conditions: BrokerConditions,
        server: Option<Arc<Server>>,
    ) -> Check {
        let scene = Scene::new(
            self.label.clone(),
            self.expected.clone(),
            conditions,
            Arc::clone(&self.make),
            server,
            variation,
        );
        let run = property.run;
        let check = async move {
            let endings = scene.endings();
            let outcome = run(scene).await;
            outcome.and(endings.run().await)
        };
        match self.ground.quiet() {
            Some(quiet) => run_alone(FAULT_TIME_LIMIT, QUIET.scope(quiet, check)),
            None => run_alone(FAULT_TIME_LIMIT, check),
        }
    }
}

/// Ends the server of one label's properties.
pub(crate) fn end(server: &OwnServer) {
    drop(server.lock().unwrap_or_else(PoisonError::into_inner).take());
}

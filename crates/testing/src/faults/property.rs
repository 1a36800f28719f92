//! A promise about what dies on the way.

use std::fmt;

use futures_util::future::BoxFuture;
use trunkline_core::{Broker, Capabilities};

use super::Scene;
use crate::broker::Need;
use crate::failure::Check;

/// A promise of a broker on a server, or of a bus over it, while something dies.
pub(crate) struct FaultProperty<B> {
    name: &'static str,
    pub(super) run: fn(Scene<B>) -> BoxFuture<'static, Check>,
    pub(super) server: Whose,
    pub(super) varies: bool,
    needs: &'static [Need],
}

/// Whose server a fault property uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Whose {
    /// The one of all properties: only clients die.
    Everybody,
    /// One that it may kill, behind a proxy that it may cut.
    Its,
}

impl<B: Broker> FaultProperty<B> {
    pub(super) fn new(
        name: &'static str,
        server: Whose,
        run: fn(Scene<B>) -> BoxFuture<'static, Check>,
    ) -> Self {
        Self { name, run, server, varies: true, needs: &[] }
    }

    /// It has no fault whose moment could be another one.
    pub(super) fn once(mut self) -> Self {
        self.varies = false;
        self
    }

    pub(super) fn needs(mut self, needs: &'static [Need]) -> Self {
        self.needs = needs;
        self
    }

    pub(crate) fn name(&self) -> &'static str {
        self.name
    }

    /// What a broker of these capabilities lacks for the property, if it lacks anything.
    pub(crate) fn lacking(&self, capabilities: &Capabilities) -> Option<&'static str> {
        let server = Need::Server.missing(capabilities);
        server.or_else(|| self.needs.iter().find_map(|need| need.missing(capabilities)))
    }
}

impl<B> fmt::Debug for FaultProperty<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FaultProperty").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Registers a function about clients that die as the fault property of its name.
macro_rules! on_everybodys_server {
    ($property:ident) => {
        $crate::faults::property::FaultProperty::new(
            stringify!($property),
            $crate::faults::property::Whose::Everybody,
            |scene| Box::pin($property(scene)),
        )
    };
}

/// Registers a function that kills, pauses or cuts off its server.
macro_rules! on_its_own_server {
    ($property:ident) => {
        $crate::faults::property::FaultProperty::new(
            stringify!($property),
            $crate::faults::property::Whose::Its,
            |scene| Box::pin($property(scene)),
        )
    };
}

pub(super) use {on_everybodys_server, on_its_own_server};

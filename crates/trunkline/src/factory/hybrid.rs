//! The hybrid part of the factory.

use std::sync::Arc;

use trunkline_core::{Broker, Result};
use trunkline_hybrid::{
    HybridBroker, HybridConfig, OnNoLocalSubscriber, OnRemoteDown, RoutingRules, Rule,
    RulesStrategy,
};

use crate::config::{self, RoutingConfig, RuleConfig};

/// The hybrid broker of an assembled bus.
pub type Hybrid = HybridBroker;

pub(super) fn broker(hybrid: &Hybrid) -> Arc<dyn Broker> {
    Arc::new(hybrid.clone())
}

pub(super) fn hybrid(
    local: Arc<dyn Broker>,
    remote: Arc<dyn Broker>,
    routing: &RoutingConfig,
) -> Result<Hybrid> {
    let strategy = RulesStrategy::new(RoutingRules {
        rules: routing.rules.iter().map(rule).collect(),
        local_types: routing.local_types.clone(),
        remote_types: routing.remote_types.clone(),
        local_from_priority: routing.local_from_priority,
        default: routing.default_route,
    })?;
    let settings = HybridConfig::default()
        .with_on_remote_down(match routing.on_remote_down {
            config::OnRemoteDown::Fail => OnRemoteDown::Fail,
            config::OnRemoteDown::Local => OnRemoteDown::Local,
        })
        .with_on_no_local_subscriber(match routing.on_no_local_subscriber {
            config::OnNoLocalSubscriber::Remote => OnNoLocalSubscriber::Remote,
            config::OnNoLocalSubscriber::Error => OnNoLocalSubscriber::Error,
        });
    let hybrid = HybridBroker::with_config(local, remote, strategy, settings);
    tracing::info!(
        survives = %hybrid.survives(),
        key_split = %hybrid.key_split(),
        "hybrid broker"
    );
    Ok(hybrid)
}

fn rule(config: &RuleConfig) -> Rule {
    let mut rule = Rule::new(config.route);
    rule.event_type.clone_from(&config.event_type);
    rule.topic.clone_from(&config.topic);
    rule.priority = config.priority;
    rule.tenant.clone_from(&config.tenant);
    let attributes = config.attributes.iter();
    rule.attributes =
        attributes.map(|(name, value)| (name.clone(), value.to_text().into_owned())).collect();
    rule
}

//! The program over real servers: every property on every broker.

mod counters;
mod demo;
mod looks;
mod members;
mod scene;
mod stops;
mod travel;

/// Makes a test of each function for each broker, such as `servers::redis::…`.
macro_rules! on_every_broker {
    ($($module:ident :: $property:ident),+ $(,)?) => {
        on_every_broker!(@ redis Redis $($module::$property),+);
        on_every_broker!(@ kafka Kafka $($module::$property),+);
        on_every_broker!(@ rabbitmq RabbitMq $($module::$property),+);
    };
    (@ $broker:ident $kind:ident $($module:ident :: $property:ident),+) => {
        mod $broker {
            $(
                #[test]
                fn $property() {
                    super::$module::$property(trunkline_launcher::Kind::$kind);
                }
            )+
        }
    };
}

on_every_broker!(
    travel::what_is_published_is_what_is_subscribed,
    travel::subscribe_pipes_into_publish,
    travel::bad_lines_are_named_and_the_rest_flows,
    travel::a_subscriber_without_a_group_prints_what_comes_from_now_on,
    stops::a_time_limit_ends_with_status_4,
    stops::sigterm_and_ctrl_c_are_clean_closes,
    looks::health_lag_and_metrics_say_what_the_broker_knows,
    counters::everything_is_counted_also_through_a_restart_of_the_server,
    members::nothing_is_lost_when_one_of_two_members_is_killed_under_load,
    demo::the_scenario_and_real_webhooks_come_through_whole,
    demo::a_hybrid_uses_both_of_its_sides,
    demo::two_kills_of_the_server_lose_nothing_and_keep_the_order,
);

//! Streams that other programs made: looked for by a scan, and made known as topics.

use redis::{Pipeline, Value};
use trunkline_core::{Result, Topic};

use crate::broker::Shared;
use crate::codec::{array_of, text_of};
use crate::index::{Index, register_topic};
use crate::publish::millis;

/// Keys that the server looks at in one step of the scan.
const STEP: usize = 1_000;

/// Looks for foreign streams, unless another process has done so within the interval.
pub(crate) async fn scan(shared: &Shared) -> Result<()> {
    let names = &shared.names;
    let mut turn = redis::cmd("SET");
    turn.arg(&names.scan).arg(&shared.incarnation).arg("NX").arg("PX");
    // A little less than the interval, so that whoever comes first next time finds it gone.
    turn.arg(millis(shared.config.discovery_interval.mul_f64(0.9)).max(1));
    if !matches!(shared.link.one("discover", turn).await?, Value::Okay) {
        return Ok(());
    }
    let index = Index::load(&shared.link, names).await?;
    for topic in found(shared).await? {
        if !index.topics.contains_key(&topic) {
            tracing::info!(%topic, "a stream of another program was found");
            register_topic(&shared.link, names, &topic, &shared.config).await?;
        }
    }
    Ok(())
}

async fn found(shared: &Shared) -> Result<Vec<Topic>> {
    let mut topics = Vec::new();
    let mut cursor = "0".to_owned();
    loop {
        let mut pipe = Pipeline::with_capacity(1);
        pipe.cmd("SCAN").arg(&cursor).arg("MATCH").arg(glob(shared.names.prefix()));
        pipe.arg("COUNT").arg(STEP).arg("TYPE").arg("stream");
        let answer = shared.link.all("discover", &pipe).await?;
        let parts = answer.into_iter().next().and_then(array_of).unwrap_or_default();
        let mut parts = parts.into_iter();
        cursor = parts.next().and_then(text_of).unwrap_or_else(|| "0".to_owned());
        let keys = parts.next().and_then(array_of).unwrap_or_default();
        let keys = keys.into_iter().filter_map(text_of);
        topics.extend(keys.filter_map(|key| shared.names.topic_of(&key)));
        if cursor == "0" {
            return Ok(topics);
        }
    }
}

/// The prefix as a pattern of its own text.
fn glob(prefix: &str) -> String {
    let mut pattern = String::with_capacity(prefix.len() + 1);
    for c in prefix.chars() {
        if matches!(c, '*' | '?' | '[' | ']' | '\\') {
            pattern.push('\\');
        }
        pattern.push(c);
    }
    pattern.push('*');
    pattern
}

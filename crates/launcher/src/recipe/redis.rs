//! Debian's redis-server.

use super::{Place, Recipe, lines};
use crate::error::Result;
use crate::folder;
use crate::install;

pub(super) fn prepare(place: Place<'_>) -> Result<Recipe> {
    let program = install::program("redis-server", "redis-server")?;
    let data = place.folder.join("data");
    folder::create(&data)?;
    let ours = [
        ("bind", "127.0.0.1".to_owned()),
        ("port", place.ports.main.number().to_string()),
        ("dir", data.display().to_string()),
        ("appendonly", "yes".to_owned()),
        // Each write reaches the file before its answer is sent: what was answered survives a SIGKILL. With
        // `everysec`, the server's default, it puts writes off while an fsync runs, and answers all the same.
        ("appendfsync", "no".to_owned()),
        ("save", "\"\"".to_owned()),
        ("maxmemory-policy", "noeviction".to_owned()),
    ];
    let config = place.folder.join("redis.conf");
    folder::write(&config, lines(&ours, place.settings, " "))?;
    let mut recipe = Recipe::new(program, place.folder);
    recipe.arguments = vec![config.display().to_string()];
    Ok(recipe)
}

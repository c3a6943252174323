//! Pages of the list of people.

use crate::{
    client::{Connection, request},
    report::Lists,
    sample::{Latencies, Percentiles},
    server::{Installation, Server},
};
use anyhow::{Result, ensure};
use std::time::Instant;

/// How often each page is fetched.
const PAGES: usize = 300;
/// How far we walk through the list for a page that is deep in it.
const DEEP: u64 = 200_000;

/// Measures pages of 50 people: the first, and one deep in the list.
pub(crate) async fn lists(server: &Server, installation: &Installation, users: u64) -> Result<Lists> {
    let authorization = installation.credentials.bearer(server.address).await?;
    let mut connection = Connection::open(server.address).await?;
    let page = |query: &str| request("GET", &format!("/v1/users?{query}"), &authorization, None);

    let first = pages(&mut connection, &page("limit=50")).await?;
    let mut deep_after = 0;
    let mut cursor = None;
    let mut query = "limit=200".to_owned();
    // Stops short of the end, so that the page is a full one.
    while deep_after < DEEP.min(users.saturating_sub(400)) {
        let answer = connection.json(&page(&query), 200).await?;
        let Some(next) = answer["next"].as_str() else { break };
        deep_after += 200;
        query = format!("limit=200&after={next}");
        cursor = Some(next.to_owned());
    }
    let deep = match cursor {
        Some(cursor) => Some(pages(&mut connection, &page(&format!("limit=50&after={cursor}"))).await?),
        None => None,
    };
    Ok(Lists { first, deep, deep_after })
}

async fn pages(connection: &mut Connection, request: &[u8]) -> Result<Percentiles> {
    let mut latencies = Latencies::default();
    for _ in 0..PAGES {
        let start = Instant::now();
        let answer = connection.exchange(request).await?;
        ensure!(answer.status == 200, "list users: {answer}");
        latencies.push(start.elapsed());
    }
    Ok(latencies.percentiles())
}

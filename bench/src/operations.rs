//! What else is measured beside the handler that does nothing, operation by operation.

use crate::{
    attempts::{Accepted, Locked, Rejected, Replayed},
    calls::{Calls, Challenges, Enrolments, RsaUnlocks},
    client::{Connection, Credentials, json_request, request},
    estate::Share,
    measured::{Bench, FIRST_GUESS, Target},
    report::OperationReport,
    server::Server,
    work::AnyWork,
};
use anyhow::{Context, Result, ensure};
use clap::ValueEnum;
use serde_json::{Value, json};
use std::{path::Path, sync::Arc};

/// A password that no rule minds.
const PASSWORD: &str = "quill-marten-orchard-42";
/// How many people sign in to ask for their own details: hashing their passwords takes its time.
const SESSIONS: usize = 16;
/// How many pages of the list, at most, are known by their cursors.
const PAGES: usize = 5_000;

/// A kind of operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Operation {
    /// Codes that were never used; measured in each run.
    Verify,
    /// Wrong codes.
    Rejected,
    /// Codes that were accepted before.
    Replayed,
    /// Right codes of people who are locked.
    Locked,
    /// Enrolling a factor and activating it by its first code.
    Enrol,
    /// Sending a code.
    Challenge,
    /// Access tokens for a client's secret.
    Token,
    /// Pages of the list of people.
    List,
    /// People by the beginning of their name.
    Search,
    /// The newest page of the audit trail.
    Audit,
    /// RSA's call to unlock somebody.
    RsaUnlock,
    /// Reltio's call for one's own second factors.
    ReltioDetails,
    /// Veeam's call that hands out a key and recovery codes.
    VeeamEnable,
    /// Each of them.
    All,
}

impl Operation {
    /// Returns those that are asked for and not measured anyway.
    pub(crate) fn asked(chosen: &[Self]) -> Vec<Self> {
        let all = Self::value_variants().iter().copied();
        let is_asked = |one: &Self| chosen.contains(one) || chosen.contains(&Self::All);
        all.filter(|one| !matches!(one, Self::Verify | Self::All)).filter(is_asked).collect()
    }

    fn name(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }

    /// Says what is done, and what makes sure that it is that.
    const fn what(self) -> &'static str {
        match self {
            Self::Verify | Self::All => "POST /v1/verify with a code that was never used",
            Self::Rejected => {
                "POST /v1/verify with a wrong code, spread over up to 8,192 people; a method locks after 100, and after 90 of \
                 a person's a right code clears the count"
            }
            Self::Replayed => {
                "POST /v1/verify with the last code that was accepted, of up to 8,192 people; that counts as no failure"
            }
            Self::Locked => {
                "POST /v1/verify with a right code of up to 8,192 people who are locked until somebody unlocks them"
            }
            Self::Enrol => {
                "POST /v1/users/{user}/factors (HOTP), then …/activate with its first code; each for somebody new. Two \
                 requests, counted and timed as one"
            }
            Self::Challenge => {
                "POST /v1/users/{user}/challenges by text message, ten for each of people made before; the worker writes \
                 messages to a file meanwhile, whose time counts"
            }
            Self::Token => "POST /oauth/token, client_credentials",
            Self::List => "GET /v1/users?limit=50, any page of the first million people",
            Self::Search => "GET /v1/users?username=… by a beginning that ten people have in common",
            Self::Audit => "GET /v1/audit?limit=50, the newest page",
            Self::RsaUnlock => {
                "PATCH /rsa/…/users/{id}/methods by an access token; each of somebody who is locked, by three wrong codes \
                 sent before"
            }
            Self::ReltioDetails => "GET /reltio/oauth/users/mfaDetails by the sessions of 16 people",
            Self::VeeamEnable => "POST /veeam/api/v8.1/users/{id}/enableMfa, recreate, of anybody",
        }
    }

    /// Returns the policy under which its outcome is the intended one.
    fn policy(self) -> Value {
        let locks = match self {
            // The most a policy may allow.
            Self::Rejected => json!({ "threshold": 100, "mode": "backoff" }),
            // Few wrong codes bring somebody there, and no lock runs out.
            Self::Locked | Self::RsaUnlock => json!({ "threshold": 3, "mode": "until_unlocked" }),
            _ => json!({ "threshold": 5, "mode": "backoff" }),
        };
        json!({
            "locks": locks,
            "resend": { "pauseSeconds": 0, "perHour": 20 },
            "sessions": { "accessSeconds": 3600 },
        })
    }

    /// Returns how many a second are prepared for the first slice, where that takes requests.
    fn first_guess(self, connections: usize) -> f64 {
        let most = match self {
            Self::Enrol => 3_000,
            Self::Challenge | Self::RsaUnlock => 6_000,
            _ => return FIRST_GUESS,
        };
        (connections * 300).min(most) as f64
    }
}

/// Returns what a server that is to send codes is told: they go to a file.
pub(crate) fn environment(room: &Path) -> Vec<(String, String)> {
    let messages = room.join("messages.log");
    let provider = format!(r#"[{{ type = "file", name = "bench", path = "{}" }}]"#, messages.display());
    vec![
        ("COUNTERSIGN__SERVER__ENVIRONMENT".into(), "development".into()),
        ("COUNTERSIGN__DELIVERY__SMS".into(), provider),
    ]
}

impl Bench<'_> {
    /// Measures operations, one after the other, at each number of connections.
    pub(crate) async fn operations(
        &mut self,
        server: &Server,
        operations: &[Operation],
        connections: &[usize],
    ) -> Result<Vec<OperationReport>> {
        let (target, authorization) = (Target::embedded(server), self.installation.credentials.basic());
        let mut measured = Vec::new();
        for &operation in operations {
            server.change_policy(&authorization, &operation.policy()).await?;
            let stage = self.stage(server, operation).await.with_context(|| operation.name())?;
            let mut at_connections = Vec::new();
            for &connections in connections {
                eprintln!("{} over {connections} connections", operation.name());
                server.reset_peak()?;
                let (works, guess) = (stage.works(connections), operation.first_guess(connections));
                let (at, works) = self
                    .interleaved(target, connections, works, guess)
                    .await
                    .with_context(|| operation.name())?;
                self.retire(target, works).await.with_context(|| operation.name())?;
                at_connections.push(at);
            }
            measured.push(OperationReport {
                name: operation.name(),
                what: operation.what().to_owned(),
                at_connections,
            });
        }
        if !operations.is_empty() {
            server.change_policy(&authorization, &Operation::Verify.policy()).await?;
        }
        Ok(measured)
    }

    async fn stage(&self, server: &Server, operation: Operation) -> Result<Stage> {
        let credentials = &self.installation.credentials;
        Ok(Stage {
            operation,
            estate: Arc::clone(&self.estate),
            basic: credentials.basic(),
            cursors: match operation {
                Operation::List => Arc::new(cursors(server, credentials).await?),
                _ => Arc::default(),
            },
            sessions: match operation {
                Operation::ReltioDetails => reltio_sessions(server, credentials).await?,
                _ => Vec::new(),
            },
        })
    }
}

/// What the work of an operation is made of.
struct Stage {
    operation: Operation,
    estate: Arc<crate::estate::Estate>,
    basic: String,
    cursors: Arc<Vec<String>>,
    sessions: Vec<String>,
}

impl Stage {
    fn works(&self, connections: usize) -> Vec<AnyWork> {
        let shares = Share::deal(&self.estate, self.estate.len(), connections).into_iter().enumerate();
        shares.map(|(lane, share)| self.work(lane, share)).collect()
    }

    fn work(&self, lane: usize, share: Share) -> AnyWork {
        match self.operation {
            Operation::Verify | Operation::All => Accepted::work(share),
            Operation::Rejected => Rejected::work(share),
            Operation::Replayed => Replayed::work(share),
            Operation::Locked => Locked::work(share),
            Operation::Enrol => Enrolments::work(),
            Operation::Challenge => Challenges::work(),
            Operation::Token => Calls::token(self.basic.clone()),
            Operation::List => Calls::list(Arc::clone(&self.cursors), lane as u64),
            Operation::Search => Calls::search(&share, lane as u64),
            Operation::Audit => Calls::audit(),
            Operation::RsaUnlock => RsaUnlocks::work(share),
            Operation::ReltioDetails => {
                Calls::reltio_details(self.sessions[lane % self.sessions.len()].clone())
            }
            Operation::VeeamEnable => Calls::veeam_enable(share),
        }
    }
}

/// Walks through the list of people; returns where its pages begin.
async fn cursors(server: &Server, credentials: &Credentials) -> Result<Vec<String>> {
    let authorization = credentials.bearer(server.address).await?;
    let mut connection = Connection::open(server.address).await?;
    let mut cursors: Vec<String> = Vec::new();
    while cursors.len() < PAGES {
        let after = cursors.last().map(|cursor| format!("&after={cursor}")).unwrap_or_default();
        let page = request("GET", &format!("/v1/users?limit=200{after}"), &authorization, None);
        let page = connection.json(&page, 200).await?;
        let Some(next) = page["next"].as_str() else { break };
        cursors.push(next.to_owned());
    }
    Ok(cursors)
}

/// Makes people who can sign in, through the vendor's own calls, and signs them in.
async fn reltio_sessions(server: &Server, credentials: &Credentials) -> Result<Vec<String>> {
    let admin = credentials.admin.as_ref().context("init did not say who the administrator is")?;
    let mut connection = Connection::open(server.address).await?;
    let basic = credentials.basic();
    let session = sign_in(&mut connection, &basic, &admin.username, &admin.password).await?;
    let mut sessions = Vec::new();
    for person in 0..SESSIONS {
        let name = format!("reltio-{person:02}@example.com");
        let new = json!([{ "username": name, "email": name, "password": PASSWORD }]);
        let create = json_request("POST", "/reltio/oauth/users", &session, &new);
        let answer = connection.exchange(&create).await?;
        ensure!(answer.status == 200, "create {name}: {answer}");
        sessions.push(sign_in(&mut connection, &basic, &name, PASSWORD).await?);
    }
    Ok(sessions)
}

async fn sign_in(connection: &mut Connection, basic: &str, username: &str, password: &str) -> Result<String> {
    let form = format!("grant_type=password&username={username}&password={password}");
    let form = ("application/x-www-form-urlencoded", form.as_bytes());
    let answer = connection.json(&request("POST", "/reltio/oauth/token", basic, Some(form)), 200).await?;
    let token = answer["access_token"].as_str().with_context(|| format!("{username} got no session"))?;
    Ok(format!("Bearer {token}"))
}

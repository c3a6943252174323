//! `countersign demo`: the whole story in a minute, with real requests to a throw-away server.
//!
//! The story is a list of scenes. Each makes requests, insists on the answer it expects, and tells one line of it.

mod mailbox;
mod phone;

use super::{
    api::{Api, Page, Server},
    audit,
    credentials::Credentials,
    factor,
    failure::Failure,
    prompt,
    screen::{self, Screen, Tone, text},
    terminal_qr, verify,
};
use crate::service::audit::Report;
use countersign_core::Secret;
use mailbox::Mailbox;
use phone::Phone;
use serde_json::{Value, json};
use std::{num::NonZeroUsize, path::PathBuf};

/// The columns the story is told in.
const WIDTH: usize = 80;
/// Wrong codes that lock, by the default policy.
const THRESHOLD: u64 = 5;

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example: countersign demo --auto\n\nWith --auto nothing is asked, and the exit code is 0 only if every step held."
)]
pub(super) struct Args {
    /// Play the phone's part too
    #[arg(long)]
    auto: bool,
}

/// A throw-away server, ready for requests.
#[derive(Debug)]
pub(super) struct DemoServer {
    /// Its address: `http://127.0.0.1:PORT`.
    pub url: String,
    /// A service client with all scopes.
    pub client_id: String,
    /// Its secret.
    pub client_secret: Secret<String>,
    /// The file messages are written into instead of being sent.
    pub messages: PathBuf,
}

/// One scene of the story.
struct Scene {
    /// The chapter it stands in.
    chapter: &'static str,
    /// What holds when it has been played.
    title: &'static str,
    /// The request it makes, for those who want to do it themselves.
    request: &'static str,
    /// What happens.
    act: Act,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Act {
    CreatePerson,
    Enrol,
    Activate,
    Accept,
    Replay,
    Guess,
    StillLocked,
    Unlock,
    AcceptAgain,
    AddAddress,
    AnswerMail,
    ReuseMail,
    DrawRecovery,
    UseRecovery,
    ReuseRecovery,
    ShowAudit,
    VerifyAudit,
}

const fn scene(chapter: &'static str, title: &'static str, request: &'static str, act: Act) -> Scene {
    Scene { chapter, title, request, act }
}

const VERIFY: &str = "POST /v1/verify";

/// The story.
const STORY: &[Scene] = &[
    scene("Enrol", "Ada Lovelace joins", "POST /v1/users", Act::CreatePerson),
    scene("Enrol", "Her factor waits for a first code", "POST /v1/users/ada/factors", Act::Enrol),
    scene("Enrol", "The first code activates it", "POST …/factors/{factor}/activate", Act::Activate),
    scene("Verify", "A fresh code proves it is her", VERIFY, Act::Accept),
    scene("Verify", "The same code again is refused", VERIFY, Act::Replay),
    scene("Lock", "Five wrong codes in a row", VERIFY, Act::Guess),
    scene("Lock", "Even the right code is refused now", VERIFY, Act::StillLocked),
    scene("Lock", "The help desk unlocks", "POST /v1/users/ada/unlock", Act::Unlock),
    scene("Lock", "A fresh code works again", VERIFY, Act::AcceptAgain),
    scene("Send", "A code goes to her address", "POST /v1/users/ada/factors", Act::AddAddress),
    scene("Send", "The code in the mail confirms it", "POST …/factors/{factor}/activate", Act::AnswerMail),
    scene("Send", "The same code again is refused", VERIFY, Act::ReuseMail),
    scene(
        "Recover",
        "Recovery codes for a lost phone",
        "POST /v1/users/ada/recovery-codes",
        Act::DrawRecovery,
    ),
    scene("Recover", "One of them works", VERIFY, Act::UseRecovery),
    scene("Recover", "It works once", VERIFY, Act::ReuseRecovery),
    scene("Audit", "All of it is on record", "GET /v1/audit", Act::ShowAudit),
    scene("Audit", "The record is proved", "countersign audit verify", Act::VerifyAudit),
];

/// What a scene has to tell.
struct Told {
    /// The rest of its line.
    detail: String,
    /// What is shown below it.
    picture: String,
}

impl Told {
    fn line(detail: impl Into<String>) -> Self {
        Self { detail: detail.into(), picture: String::new() }
    }
}

/// Tells the story on the server that `start` starts; `verify_audit` proves its audit trail, `stop` ends it.
pub(super) async fn run<H>(
    args: Args,
    start: impl AsyncFnOnce() -> Result<(DemoServer, H), Failure>,
    verify_audit: impl AsyncFnOnce(&H) -> Result<Report, Failure>,
    stop: impl AsyncFnOnce(H),
) -> Result<(), Failure> {
    if !args.auto && !prompt::is_interactive() {
        return Err(Failure::usage("the demo asks for codes, and nobody is at the keyboard")
            .hint("countersign demo --auto plays the phone's part too"));
    }
    let (server, handle) = start().await?;
    let told = tokio::select! {
        told = tell(&args, &server, async || verify_audit(&handle).await) => told,
        _ = tokio::signal::ctrl_c() => Err(Failure::new("the demo was interrupted")),
    };
    stop(handle).await;
    told
}

async fn tell(
    args: &Args,
    server: &DemoServer,
    verify_audit: impl AsyncFnOnce() -> Result<Report, Failure>,
) -> Result<(), Failure> {
    let mut story = Story::begin(args, server).await?;
    let mut verify_audit = Some(verify_audit);
    let mut chapter = "";

    story.screen.print(&format!(
        "{}\nA throw-away server at {}. Every line is a real request.",
        story.screen.paint(Tone::Strong, "Countersign in a minute"),
        server.url
    ))?;
    for scene in STORY {
        if scene.chapter != chapter {
            chapter = scene.chapter;
            story.screen.print(&format!("\n{}", story.screen.paint(Tone::Strong, chapter)))?;
        }
        let played = match (scene.act, verify_audit.take()) {
            (Act::VerifyAudit, Some(verify)) => story.prove_audit(verify).await,
            (act, verify) => {
                verify_audit = verify;
                story.play(act).await
            }
        };
        let told = played.map_err(|failure| stopped_at(scene, failure))?;
        story.screen.print(&line(story.screen, scene, &told.detail))?;
        if !told.picture.is_empty() {
            story.screen.print(&format!("\n{}\n\n", told.picture.trim_end_matches('\n')))?;
        }
    }
    let next = "Next: countersign serve starts a server that stays; its API is at /docs.";
    story.screen.print(&format!("\n{next}"))
}

fn stopped_at(scene: &Scene, failure: Failure) -> Failure {
    let hint =
        failure.hint.unwrap_or_else(|| "this should not happen: please report it with this output".into());
    Failure::new(format!("the demo stopped at \"{}\": {}", scene.title, failure.message)).hint(hint)
}

/// Returns a scene's line: what holds at the left, the request at the right if there is room.
fn line(screen: Screen, scene: &Scene, detail: &str) -> String {
    let said = if detail.is_empty() { scene.title.to_owned() } else { format!("{}: {detail}", scene.title) };
    let taken = "  ✓ ".chars().count() + said.chars().count();
    let room = WIDTH.saturating_sub(taken);
    let request = if scene.request.chars().count() + 2 <= room {
        screen.paint(Tone::Quiet, &format!("{:>room$}", scene.request))
    } else {
        String::new()
    };
    format!("  {}{request}", screen.done(&said))
}

/// What the scenes share.
struct Story {
    api: Api,
    screen: Screen,
    auto: bool,
    user: String,
    factor: String,
    phone: Option<Phone>,
    last_code: Secret<String>,
    recovery_code: Secret<String>,
    mailbox: Mailbox,
}

impl Story {
    async fn begin(args: &Args, server: &DemoServer) -> Result<Self, Failure> {
        let url = server.url.parse().map_err(|_| Failure::new(format!("{} is no address", server.url)))?;
        let at = Server { url, organisation: None, ca_file: None, json: false };
        let credentials =
            Credentials::Client { id: server.client_id.clone(), secret: server.client_secret.clone() };
        Ok(Self {
            api: Api::connect(&at, credentials).await?,
            screen: Screen::new(),
            auto: args.auto,
            user: String::new(),
            factor: String::new(),
            phone: None,
            last_code: String::new().into(),
            recovery_code: String::new().into(),
            mailbox: Mailbox::new(server.messages.clone()),
        })
    }

    async fn play(&mut self, act: Act) -> Result<Told, Failure> {
        match act {
            Act::CreatePerson => self.create_person().await,
            Act::Enrol => self.enrol().await,
            Act::Activate => self.activate().await,
            Act::Accept | Act::AcceptAgain => self.accept().await,
            Act::Replay => self.replay().await,
            Act::Guess => self.guess().await,
            Act::StillLocked => self.still_locked().await,
            Act::Unlock => self.unlock().await,
            Act::AddAddress => self.add_address().await,
            Act::AnswerMail => self.answer_mail().await,
            Act::ReuseMail => self.reuse_mail().await,
            Act::DrawRecovery => self.draw_recovery().await,
            Act::UseRecovery => self.try_recovery("accepted").await,
            Act::ReuseRecovery => self.try_recovery("replayed").await,
            Act::ShowAudit => self.show_audit().await,
            Act::VerifyAudit => Ok(Told::line("")),
        }
    }

    async fn create_person(&mut self) -> Result<Told, Failure> {
        let body = json!({"username": "ada", "displayName": "Ada Lovelace"});
        let user = self.api.post(&["v1", "users"], body).await?;
        self.user = text(&user, "/id").to_owned();
        expect(user["factors"] == 0, "a person without factors", &user["factors"])?;
        Ok(Told::line(format!("number {}", user["number"])))
    }

    async fn enrol(&mut self) -> Result<Told, Failure> {
        let body = json!({"type": "totp", "label": "Ada's phone"});
        let enrolment = self.api.post(&["v1", "users", &self.user, "factors"], body).await?;
        expect(enrolment["state"] == "pending", "a pending factor", &enrolment["state"])?;
        self.factor = text(&enrolment, "/id").to_owned();
        self.phone = Some(Phone::scan(&enrolment)?);

        let code = indented(&terminal_qr::render(self.screen, text(&enrolment, "/otpauthUri")));
        let secret = factor::grouped(text(&enrolment, "/secret"));
        let picture = format!("{code}\n    Scan it with an authenticator app, or type:\n    {secret}\n");
        Ok(Told { detail: String::new(), picture })
    }

    async fn activate(&mut self) -> Result<Told, Failure> {
        if !self.auto {
            self.note("The demo can play the phone for you: just press Enter.")?;
        } else {
            self.note("The demo plays the phone, with codes of neighbouring steps: each works once.")?;
        }
        let code = self.fresh_code().await?;
        let path = ["v1", "users", &self.user, "factors", &self.factor, "activate"];
        let factor = self.api.post(&path, json!({"code": code.expose()})).await?;
        expect(factor["state"] == "active", "an active factor", &factor["state"])?;
        self.used(code)?;
        Ok(Told::line(self.last_code.expose().clone()))
    }

    async fn accept(&mut self) -> Result<Told, Failure> {
        let code = self.fresh_code().await?;
        let verdict = self.verify(code.expose(), None).await?;
        expect_result(&verdict, "accepted")?;
        self.used(code)?;
        Ok(Told::line(self.last_code.expose().clone()))
    }

    async fn replay(&mut self) -> Result<Told, Failure> {
        let verdict = self.verify(self.last_code.expose(), None).await?;
        expect_result(&verdict, "replayed")?;
        Ok(Told::line("replayed"))
    }

    async fn guess(&mut self) -> Result<Told, Failure> {
        for (code, left) in self.phone()?.wrong_codes(screen::now()).into_iter().zip((0..THRESHOLD).rev()) {
            let verdict = self.verify(code.expose(), None).await?;
            if left == 0 {
                expect_result(&verdict, "locked")?;
                return Ok(Told::line(verify::describe(&verdict)));
            }
            expect_result(&verdict, "rejected")?;
            expect(
                verdict["attemptsLeft"] == left,
                &format!("{left} attempts left"),
                &verdict["attemptsLeft"],
            )?;
        }
        Err(Failure::new("there were no wrong codes to try"))
    }

    async fn still_locked(&mut self) -> Result<Told, Failure> {
        let code = self.phones_code().await?;
        let verdict = self.verify(code.expose(), None).await?;
        expect_result(&verdict, "locked")?;
        Ok(Told::line(code.expose().clone()))
    }

    async fn unlock(&mut self) -> Result<Told, Failure> {
        let locks = self.api.post(&["v1", "users", &self.user, "unlock"], json!({})).await?;
        expect(locks["failures"] == 0, "no failures left", &locks["failures"])?;
        Ok(Told::line("failures forgotten"))
    }

    async fn add_address(&mut self) -> Result<Told, Failure> {
        let body = json!({"type": "email", "destination": "ada@example.com"});
        let enrolment = self.api.post(&["v1", "users", &self.user, "factors"], body).await?;
        expect(enrolment["state"] == "pending", "a pending factor", &enrolment["state"])?;
        self.factor = text(&enrolment, "/id").to_owned();
        Ok(Told::line(screen::plain(text(&enrolment, "/destination"))))
    }

    async fn answer_mail(&mut self) -> Result<Told, Failure> {
        let (subject, code) = self.mailbox.code().await?;
        self.note(&format!("From the mail \"{}\"", screen::plain(&subject)))?;
        let path = ["v1", "users", &self.user, "factors", &self.factor, "activate"];
        let factor = self.api.post(&path, json!({"code": code.expose()})).await?;
        expect(factor["state"] == "active", "an active factor", &factor["state"])?;
        self.last_code = code;
        Ok(Told::line(self.last_code.expose().clone()))
    }

    async fn reuse_mail(&mut self) -> Result<Told, Failure> {
        let verdict = self.verify(self.last_code.expose(), Some("email")).await?;
        expect_result(&verdict, "replayed")?;
        Ok(Told::line("replayed"))
    }

    async fn draw_recovery(&mut self) -> Result<Told, Failure> {
        let drawn = self.api.post(&["v1", "users", &self.user, "recovery-codes"], json!({})).await?;
        let codes = drawn["codes"].as_array().map_or(0, Vec::len);
        expect(codes > 0, "some recovery codes", &codes.into())?;
        self.recovery_code = text(&drawn, "/codes/0").to_owned().into();
        Ok(Told::line(format!("{codes}")))
    }

    async fn try_recovery(&mut self, wanted: &str) -> Result<Told, Failure> {
        let verdict = self.verify(self.recovery_code.expose(), Some("recovery")).await?;
        expect_result(&verdict, wanted)?;
        Ok(Told::line(match wanted {
            "accepted" => self.recovery_code.expose().clone(),
            refused => refused.to_owned(),
        }))
    }

    async fn show_audit(&mut self) -> Result<Told, Failure> {
        let page = Page { limit: NonZeroUsize::MIN, all: true, after: None };
        let events = self.api.list(&["v1", "audit"], &[("user", self.user.clone())], &page).await?;
        let events = events["items"].as_array().map_or(&[][..], Vec::as_slice);
        for action in
            ["factor.activated", "verify.accepted", "verify.rejected", "method.locked", "method.unlocked"]
        {
            let is_there = events.iter().any(|event| event["action"] == action);
            expect(is_there, &format!("{action} in the audit trail"), &Value::from("none"))?;
        }
        let columns = [("time", "/time"), ("event", "/event"), ("", "/why"), ("by", "/by")];
        let picture = indented(&self.screen.table(&columns, &condensed(events)));
        Ok(Told { detail: format!("{} events", events.len()), picture })
    }

    async fn prove_audit(
        &self,
        verify_audit: impl AsyncFnOnce() -> Result<Report, Failure>,
    ) -> Result<Told, Failure> {
        let report = verify_audit().await?;
        expect(report.rows > 0, "events in the audit trail", &0.into())?;
        Ok(Told::line(audit::proof(&report)?))
    }

    async fn verify(&self, code: &str, kind: Option<&str>) -> Result<Value, Failure> {
        let mut body = json!({"user": self.user, "code": code});
        if let Some(kind) = kind {
            body["type"] = kind.into();
        }
        self.api.post(&["v1", "verify"], body).await
    }

    /// Returns a code that was not used yet: from the person, or from the demo's own phone.
    async fn fresh_code(&mut self) -> Result<Secret<String>, Failure> {
        if self.auto {
            return self.phones_code().await;
        }
        loop {
            let typed = ask("    The code in your app (or Enter): ").await?;
            if typed.expose().is_empty() {
                return self.phones_code().await;
            }
            match self.phone()?.judge(typed.expose(), screen::now()) {
                Ok(code) => return Ok(code),
                Err(advice) => self.note(advice)?,
            }
        }
    }

    /// Returns a fresh code of the demo's own phone, waiting for its step if need be.
    async fn phones_code(&self) -> Result<Secret<String>, Failure> {
        let (code, wait) = self.phone()?.next_code(screen::now());
        if !wait.is_zero() {
            self.note(&format!(
                "Waiting {} for the next code, because each works once.",
                screen::span(wait)
            ))?;
            tokio::time::sleep(wait).await;
        }
        Ok(code)
    }

    fn used(&mut self, code: Secret<String>) -> Result<(), Failure> {
        let phone = self.phone.as_mut().ok_or_else(no_phone)?;
        phone.burn(code.expose(), screen::now());
        self.last_code = code;
        Ok(())
    }

    fn phone(&self) -> Result<&Phone, Failure> {
        self.phone.as_ref().ok_or_else(no_phone)
    }

    fn note(&self, text: &str) -> Result<(), Failure> {
        self.screen.print(&format!("    {}", self.screen.paint(Tone::Quiet, text)))
    }
}

fn no_phone() -> Failure {
    Failure::new("no factor was enrolled")
}

/// Asks without holding up the server, which runs in the same process.
async fn ask(question: &'static str) -> Result<Secret<String>, Failure> {
    tokio::task::spawn_blocking(move || prompt::line(question))
        .await
        .unwrap_or_else(|_| Err(Failure::new("the question was interrupted")))
}

fn expect(holds: bool, wanted: &str, got: &Value) -> Result<(), Failure> {
    if holds {
        Ok(())
    } else {
        Err(Failure::new(format!("expected {wanted}, got {}", screen::shown(Some(got)))))
    }
}

fn expect_result(verdict: &Value, wanted: &str) -> Result<(), Failure> {
    expect(verdict["result"] == wanted, wanted, &verify::describe(verdict).into())
}

fn indented(text: &str) -> String {
    text.lines().map(|line| format!("    {line}\n")).collect()
}

/// Returns the rows of the audit table, oldest first; the same event several times in a row is one row.
fn condensed(events: &[Value]) -> Vec<Value> {
    let mut ordered: Vec<&Value> = events.iter().collect();
    ordered.sort_by_key(|event| event["seq"].as_u64());
    ordered
        .chunk_by(|one, next| one["action"] == next["action"] && audit::why(one) == audit::why(next))
        .map(|same| {
            let action = screen::plain(text(same[0], "/action"));
            let event = if same.len() > 1 { format!("{action} × {}", same.len()) } else { action };
            let time = text(same[0], "/at").get(11..19).unwrap_or_default();
            json!({
                "time": time,
                "event": event,
                "why": audit::why(same[0]),
                "by": text(same[0], "/actor/type"),
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{
        failure::Exit,
        stub::{Reply, Stub, reply},
    };

    const PLAIN: Screen = Screen { colours: false, width: None };

    #[test]
    fn the_story_is_told_in_order() {
        let acts: Vec<Act> = STORY.iter().map(|scene| scene.act).collect();

        assert_eq!(
            acts,
            [
                Act::CreatePerson,
                Act::Enrol,
                Act::Activate,
                Act::Accept,
                Act::Replay,
                Act::Guess,
                Act::StillLocked,
                Act::Unlock,
                Act::AcceptAgain,
                Act::AddAddress,
                Act::AnswerMail,
                Act::ReuseMail,
                Act::DrawRecovery,
                Act::UseRecovery,
                Act::ReuseRecovery,
                Act::ShowAudit,
                Act::VerifyAudit,
            ]
        );
    }

    #[test]
    fn a_line_is_80_columns_wide_and_shows_the_request() {
        for scene in STORY {
            let line = line(PLAIN, scene, "123456");
            assert!(line.chars().count() <= WIDTH, "{line}");
            assert!(scene.act == Act::VerifyAudit || line.ends_with(scene.request), "{line}");
        }
    }

    #[test]
    fn the_same_event_in_a_row_is_one_row() {
        let events: Vec<Value> = [3, 2, 1]
            .map(|seq| json!({"seq": seq, "at": "2026-11-22T10:00:00.000Z", "action": "verify.rejected"}))
            .to_vec();

        let rows = condensed(&events);

        assert_eq!(rows.len(), 1);
        assert_eq!(rows[0]["event"], "verify.rejected × 3");
        assert_eq!(rows[0]["time"], "10:00:00");
    }

    fn result(name: &str) -> Reply {
        reply("POST", "/v1/verify", 200, json!({"result": name, "type": "totp"}))
    }

    /// The answers of a server that does everything right.
    fn script() -> Vec<Reply> {
        let secret = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ";
        let enrolment = json!({
            "id": "f", "state": "pending", "secret": secret, "algorithm": "SHA1", "digits": 6, "period": 30,
            "otpauthUri": format!("otpauth://totp/Demo:ada?secret={secret}&issuer=Demo"),
        });
        let rejected =
            |left: u64| reply("POST", "/v1/verify", 200, json!({"result": "rejected", "attemptsLeft": left}));
        let actions =
            ["factor.activated", "verify.accepted", "verify.rejected", "method.locked", "method.unlocked"];
        let events: Vec<Value> =
            actions.iter().zip(1..).map(|(action, seq)| json!({"seq": seq, "action": action})).collect();
        let mut script = vec![
            reply("POST", "/v1/users", 201, json!({"id": "u", "number": 1000, "factors": 0})),
            reply("POST", "/v1/users/u/factors", 201, enrolment),
            reply("POST", "/v1/users/u/factors/f/activate", 200, json!({"state": "active"})),
            result("accepted"),
            result("replayed"),
        ];
        script.extend((1..THRESHOLD).rev().map(rejected));
        script.extend([
            result("locked"),
            result("locked"),
            reply("POST", "/v1/users/u/unlock", 200, json!({"items": [], "failures": 0})),
            result("accepted"),
            reply(
                "POST",
                "/v1/users/u/factors",
                201,
                json!({"id": "m", "state": "pending", "destination": "a•••@e•••.com"}),
            ),
            reply("POST", "/v1/users/u/factors/m/activate", 200, json!({"state": "active"})),
            result("replayed"),
            reply("POST", "/v1/users/u/recovery-codes", 201, json!({"codes": ["AAAA-BBBB-CCCC-DDDD"]})),
            result("accepted"),
            result("replayed"),
            reply("GET", "/v1/audit?user=u&limit=200", 200, json!({"items": events, "next": null})),
        ]);
        script
    }

    async fn play(script: Vec<Reply>, report: Report) -> (Result<(), Failure>, usize) {
        let directory = tempfile::tempdir().expect("directory");
        let messages = directory.path().join("messages.jsonl");
        std::fs::write(&messages, r#"{"subject":"Your code","text":"123456 is your code"}"#).expect("write");
        let start = async || {
            let stub = Stub::start(script).await;
            let url = stub.server().url.to_string();
            let client_secret = "s".to_owned().into();
            Ok((DemoServer { url, client_id: "c".into(), client_secret, messages }, stub))
        };
        let mut left = usize::MAX;
        let told = run(
            Args { auto: true },
            start,
            async |_: &Stub| Ok(report),
            async |stub: Stub| left = stub.left(),
        )
        .await;
        (told, left)
    }

    fn intact() -> Report {
        Report { rows: 6, people: 1, organisations: 1, ..Report::default() }
    }

    #[tokio::test]
    async fn the_story_holds_if_the_server_does_everything_right() {
        assert_eq!(play(script(), intact()).await, (Ok(()), 0));
    }

    #[tokio::test]
    async fn a_replay_that_is_accepted_stops_the_demo_there() {
        let mut script = script();
        script[4] = result("accepted");

        let (told, left) = play(script, intact()).await;

        let failure = told.expect_err("a replay was accepted");
        assert_eq!(failure.exit, Exit::Failed);
        assert!(failure.message.contains("The same code again is refused"), "{failure}");
        assert!(left > 0, "nothing is played after it");
    }

    #[tokio::test]
    async fn a_broken_audit_trail_stops_the_demo() {
        let (told, _) = play(script(), Report { finding_count: 1, ..intact() }).await;

        assert!(told.is_err_and(|failure| failure.message.contains("The record is proved")));
    }
}

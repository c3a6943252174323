//! The commands for people at a keyboard and for scripts: what they print, and their exit codes.

use crate::{
    installation::{Installation, Running, finish, finish_with_input, program},
    phone::{Phone, hotp_codes},
    tools::text,
};
use serde_json::{Value, json};
use std::{
    fs,
    path::Path,
    process::{Command, Output},
};

const SEED: &str = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ";

/// A terminal with a client's credentials in its environment.
struct Terminal {
    installation: Installation,
    server: Running,
}

impl Terminal {
    fn new() -> Self {
        let installation = Installation::new();
        let server = installation.serve();
        Self { installation, server }
    }

    fn command(&self, line: &str) -> Command {
        let mut command = program();
        command
            .args(line.split_whitespace())
            .current_dir(self.installation.home.path())
            .env("COUNTERSIGN_URL", &self.server.url)
            .env("COUNTERSIGN_CLIENT_ID", self.installation.client_id())
            .env("COUNTERSIGN_CLIENT_SECRET", self.installation.client_secret());
        command
    }

    fn run(&self, line: &str) -> Output {
        finish(self.command(line))
    }

    /// Runs a line that must end with an exit code; returns all it printed.
    #[track_caller]
    fn ends(&self, code: i32, line: &str) -> String {
        let output = self.run(line);
        let printed = text(&output.stdout) + &text(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{line}: {printed}");
        if code != 0 {
            assert!(!printed.contains("panicked"), "{line}: {printed}");
        }
        printed
    }

    /// Runs a line with `--json` that must end with an exit code; returns what it printed on standard output.
    #[track_caller]
    fn json(&self, code: i32, line: &str) -> Value {
        let output = self.run(&format!("{line} --json"));
        assert_eq!(output.status.code(), Some(code), "{line}: {}", text(&output.stderr));
        serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|error| panic!("{line}: {error}: {}", text(&output.stdout)))
    }

    /// Brings in a counter-based token; returns its codes.
    fn import_token(&self, user: &str) -> Vec<String> {
        let line = format!("factor import {user} --type hotp --digits 8 --label Token");
        let output = finish_with_input(self.command(&line), SEED);
        assert!(output.status.success(), "{}", text(&output.stderr));
        assert!(!text(&output.stdout).contains(SEED), "a seed that is known is not shown");
        hotp_codes(SEED, 20)
    }
}

#[test]
fn a_person_is_managed_from_creation_to_deletion() {
    let terminal = Terminal::new();

    let ada = terminal.json(0, "user create ada --email ada@example.org");
    assert_eq!((ada["username"].as_str(), ada["status"].as_str()), (Some("ada"), Some("active")));
    assert_eq!(terminal.json(0, "user show ada")["id"], ada["id"]);
    assert!(terminal.ends(0, "user list").contains("ada@") || terminal.ends(0, "user list").contains("ada"));
    let listed = terminal.json(0, "user list --prefix ad");
    assert_eq!(listed["items"].as_array().map(Vec::len), Some(2), "ada and admin: {listed}");
    let updated =
        terminal.json(0, "user update ada --name Ada --family-name Lovelace --status disabled --email=");
    assert_eq!((updated["displayName"].as_str(), updated["email"].as_str()), (Some("Ada"), None));
    assert_eq!(updated["familyName"], "Lovelace");

    let again = terminal.ends(1, "user create ada");
    assert!(again.contains("field username") && again.contains("hint: "), "{again}");
    let unconfirmed = terminal.ends(2, "user delete ada");
    assert!(unconfirmed.contains("--yes"), "{unconfirmed}");
    terminal.ends(0, "user delete ada --yes");
    let gone = terminal.ends(4, "user show ada");
    assert!(gone.contains("user_not_found") && gone.contains("hint: "), "{gone}");
}

#[test]
fn a_person_is_sent_a_link_or_told_a_code() {
    let terminal = Terminal::new();
    terminal.ends(0, "user create ada --email ada@example.org");

    let unsent = terminal.ends(1, "factor enrol ada --link --replace");
    assert!(unsent.contains("channel_not_configured") && unsent.contains("[delivery]"), "{unsent}");
    terminal.ends(2, "factor enrol ada --link --code");
    terminal.ends(2, "factor enrol ada --replace");
    let told = terminal.ends(0, "factor enrol ada --code --minutes 10");
    assert!(told.contains("/enrol") && told.contains("once, within"), "{told}");
    let code = terminal.json(0, "factor enrol ada --code")["code"].clone();
    assert!(code.as_str().is_some_and(|code| code.len() == 9), "{code}");

    terminal.import_token("ada");
    let refused = terminal.ends(1, "factor enrol ada --code");
    assert!(refused.contains("already_enrolled") && refused.contains("hint: "), "{refused}");
}

#[test]
fn a_factor_is_enrolled_used_and_removed() {
    let terminal = Terminal::new();
    terminal.ends(0, "user create ada");

    let factor = terminal.json(0, "factor enrol ada --label Phone");
    let mut phone = Phone::scan(factor["otpauthUri"].as_str().expect("a URI"));
    let wrong = &phone.wrong_codes()[0];
    terminal.ends(5, &format!("factor activate ada Phone --code {wrong}"));
    let code = phone.fresh_code();
    terminal.ends(0, &format!("factor activate ada Phone --code {code}"));
    let used = terminal.ends(5, &format!("verify ada --code {code}"));
    assert!(used.contains("replayed") && used.contains("hint: "), "{used}");
    terminal.ends(0, &format!("verify ada --code {}", phone.fresh_code()));

    assert!(terminal.ends(0, "factor list ada").contains("Phone"));
    let renamed = terminal.json(0, "factor rename ada Phone Mobile");
    assert_eq!(renamed["label"], "Mobile");
    assert_eq!(terminal.json(0, "factor disable ada Mobile")["state"], "disabled");
    assert_eq!(terminal.json(5, "verify ada --code 000000")["result"], "no_factor");
    assert_eq!(terminal.json(0, "factor enable ada Mobile")["state"], "active");
    terminal.ends(4, "factor delete ada Phone --yes");
    terminal.ends(0, "factor delete ada Mobile --yes");
    assert_eq!(terminal.json(0, "factor list ada")["items"], json!([]));
}

#[test]
fn a_lock_is_met_with_exit_code_5_and_lifted() {
    let terminal = Terminal::new();
    terminal.ends(0, "user create ada");
    let codes = terminal.import_token("ada");

    let accepted = finish_with_input(terminal.command("verify ada"), &format!("{}\n", codes[0]));
    assert_eq!(accepted.status.code(), Some(0), "a code on standard input: {}", text(&accepted.stderr));
    for left in [4, 3, 2, 1] {
        let rejected = terminal.ends(5, "verify ada --code 00000000");
        assert!(rejected.contains(&format!("{left} more before it locks")), "{rejected}");
    }
    assert!(terminal.ends(5, "verify ada --code 00000000").contains("countersign unlock ada"));
    assert_eq!(terminal.json(5, &format!("verify ada --code {}", codes[1]))["result"], "locked");
    assert!(terminal.ends(0, "user locks ada").contains("TOKEN"));
    assert_eq!(terminal.json(0, "user list --locked token")["items"][0]["username"], "ada");

    terminal.ends(0, "unlock ada --method token");
    let again = format!("verify ada --code {} --request-id one", codes[1]);
    for _ in 0..2 {
        assert_eq!(terminal.json(0, &again)["result"], "accepted", "a retry gets the first answer");
    }
    let resynchronised = format!("factor resync ada Token --code {} {}", codes[15], codes[16]);
    assert_eq!(terminal.json(0, &resynchronised)["counter"], 17);

    let recovery = terminal.json(0, "user recovery-codes ada");
    let code = recovery["codes"][0].as_str().expect("a code");
    let recover = format!("verify ada --type recovery --code {code}");
    terminal.ends(0, &recover);
    terminal.ends(5, &recover);

    terminal.ends(2, "reset ada");
    terminal.ends(0, "reset ada --yes");
    assert_eq!(terminal.json(0, "user show ada")["factors"], 0);
    terminal.ends(4, "unlock nobody");
}

#[test]
fn a_key_file_for_another_host_is_written_with_a_warning() {
    let terminal = Terminal::new();
    let create = "client create --name Bot --role helpdesk --json --rsa-key";

    let own = terminal.run(&format!("{create} own.key"));
    let other =
        terminal.run(&format!("{create} other.key --api-url https://rsa.example/AdminInterface/restapi"));

    assert_eq!(text(&own.stderr), "");
    assert!(other.status.success());
    let warning = text(&other.stderr);
    assert!(warning.starts_with("warning: the key file names rsa.example: "), "{warning}");
    assert!(warning.contains("dialects.rsa.hosts, server.hosts or tokens.issuer"), "{warning}");
    let file = fs::read(terminal.installation.beside("other.key")).expect("a key file");
    let file: Value = serde_json::from_slice(&file).expect("JSON");
    assert_eq!(file["adminRestApiUrl"], "https://rsa.example/AdminInterface/restapi");
}

#[test]
fn a_client_has_its_scopes_and_no_more() {
    let terminal = Terminal::new();
    terminal.ends(0, "user create ada");
    let client = terminal.json(0, "client create --name Gate --scope verify --scope users:read");
    let secret = terminal.installation.beside("gate.secret");
    fs::write(&secret, client["secret"].as_str().expect("a secret")).expect("write");
    let as_gate = |line: &str| {
        let mut command = terminal.command(line);
        command
            .env("COUNTERSIGN_CLIENT_ID", client["id"].as_str().expect("an id"))
            .env_remove("COUNTERSIGN_CLIENT_SECRET")
            .env("COUNTERSIGN_CLIENT_SECRET_FILE", &secret);
        finish(command)
    };

    assert_eq!(as_gate("user show ada").status.code(), Some(0));
    let refused = as_gate("user create eve");
    assert_eq!(refused.status.code(), Some(3));
    assert!(text(&refused.stderr).contains("hint: "), "{}", text(&refused.stderr));
    let listed = terminal.ends(0, "client list");
    assert!(
        listed.contains("Gate") && !listed.contains(client["secret"].as_str().expect("a secret")),
        "{listed}"
    );
    let id = client["id"].as_str().expect("an id");
    let rotated = terminal.json(0, &format!("client rotate-secret {id}"));
    assert_ne!(rotated["secret"], client["secret"]);
    terminal.ends(0, &format!("client delete {id} --yes"));
    assert_eq!(as_gate("user show ada").status.code(), Some(3), "a deleted client is nobody");
}

#[test]
fn a_wrong_secret_is_refused_and_none_is_asked_for() {
    let terminal = Terminal::new();

    let mut wrong = terminal.command("user list");
    wrong.env("COUNTERSIGN_CLIENT_SECRET", "cs_wrong");
    let mut none = terminal.command("user list");
    none.env_remove("COUNTERSIGN_CLIENT_ID");
    let (wrong, none) = (finish(wrong), finish(none));

    assert_eq!(wrong.status.code(), Some(3), "{}", text(&wrong.stderr));
    assert_eq!(none.status.code(), Some(2), "{}", text(&none.stderr));
    assert!(text(&none.stderr).contains("COUNTERSIGN_CLIENT_ID"));
}

#[test]
fn an_owner_keeps_organisations_and_their_policy() {
    let terminal = Terminal::new();
    let as_owner = |line: &str| {
        let mut command = terminal.command(line);
        let admin = &terminal.installation.first["admin"];
        command
            .env_remove("COUNTERSIGN_CLIENT_ID")
            .env_remove("COUNTERSIGN_CLIENT_SECRET")
            .env("COUNTERSIGN_USERNAME", admin["username"].as_str().expect("a name"))
            .env("COUNTERSIGN_PASSWORD", admin["password"].as_str().expect("a password"));
        finish(command)
    };

    let created = as_owner("org create acme --name Acme --json");
    assert_eq!(created.status.code(), Some(0), "{}", text(&created.stderr));
    let inside = as_owner("user create ada --organisation acme");
    assert_eq!(inside.status.code(), Some(0), "{}", text(&inside.stderr));
    assert_eq!(as_owner("user show ada").status.code(), Some(4), "not in the first organisation");
    let listed = as_owner("org list");
    assert!(text(&listed.stdout).contains("acme"), "{}", text(&listed.stdout));
    let policy: Value =
        serde_json::from_slice(&as_owner("org policy show acme --json").stdout).expect("JSON");
    assert_eq!(policy["locks"]["threshold"], 5);
    terminal.ends(3, "org create eve --name Eve");
}

#[test]
fn the_trail_is_listed_for_whoever_may_read_it() {
    let terminal = Terminal::new();
    terminal.ends(0, "user create ada");

    let events = terminal.json(0, "audit list --user ada");

    assert_eq!(events["items"][0]["action"], "user.created", "{events}");
    assert!(terminal.ends(0, "audit list --action user.created").contains("user.created"));
}

#[test]
fn old_events_are_archived_by_hand_and_the_proof_goes_on() {
    let installation = Installation::new();
    // A checkpoint is signed when it stops.
    assert!(installation.serve().terminate().0.success());
    let archive = installation.beside("archive");
    let run = |arguments: &[&str], to: Option<&Path>| {
        let mut command = installation.command(arguments);
        command.args(to.map(Path::as_os_str));
        let output = finish(command);
        (output.status.code(), text(&output.stdout), text(&output.stderr))
    };
    let all = ["audit", "archive", "--before", "2100-01-01"];
    let into = [&all[..], &["--to"]].concat();
    let verify = ["audit", "verify", "--archive"];

    let (code, _, said) = run(&all, None);
    assert_eq!(code, Some(2));
    assert!(said.contains("no archive is named") && said.contains("audit.archive_directory"), "{said}");
    let (code, _, said) = run(&["audit", "archive", "--before", "yesterday", "--to", "."], None);
    assert_eq!(code, Some(2));
    assert!(said.contains("--before yesterday: expected a date or a time"), "{said}");
    let (code, _, said) = run(&into, Some(&archive));
    assert_eq!(code, Some(1), "nobody made it");
    assert!(said.contains("open audit archive") && said.contains("No such file or directory"), "{said}");
    std::fs::create_dir(&archive).expect("create");

    let (code, done, said) = run(&into, Some(&archive));

    assert_eq!(code, Some(0), "{said}");
    let count: u64 = done.split_whitespace().nth(1).expect("a number").parse().expect("a number");
    assert_eq!(done, format!("✓ {count} events archived in {}, and pruned\n", archive.display()));
    let (code, proved, _) = run(&verify[..2], None);
    assert_eq!(code, Some(0));
    let expected = format!("✓ 1 events in 2 chains, none cut or edited; {count} older ones were pruned\n");
    assert_eq!(proved, expected);
    let (code, proved, _) = run(&verify, Some(&archive));
    assert_eq!(code, Some(0));
    let events = count + 1;
    let expected =
        format!("✓ {events} events in 2 chains, none cut or edited; {count} of them are in the archive\n");
    assert_eq!(proved, expected);
    let again = run(&[&into[..], &[archive.to_str().expect("text"), "--json"]].concat(), None).1;
    let again: Value = serde_json::from_str(&again).expect("JSON");
    assert_eq!(again["archived"], 0);
    for entry in std::fs::read_dir(&archive).expect("read") {
        std::fs::write(entry.expect("an entry").path(), "").expect("write");
    }
    let (code, found, _) = run(&verify, Some(&archive));
    assert_eq!(code, Some(6));
    assert!(found.contains("✗ archive: its 0 events are not the"), "{found}");
}

#[test]
fn help_says_what_there_is() {
    let help = |argument: &str| {
        let mut command = program();
        command.arg(argument);
        let output = finish(command);
        assert!(output.status.success());
        text(&output.stdout)
    };

    insta::assert_snapshot!("help", help("--help"));
    assert!(help("-h").len() < help("--help").len());
    assert_eq!(help("--version"), format!("countersign {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn a_command_that_is_not_understood_exits_with_2() {
    let mut command = program();
    command.arg("sevre");

    let output = finish(command);

    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("'serve'"), "{}", text(&output.stderr));
}

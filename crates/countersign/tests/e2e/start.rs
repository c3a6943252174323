//! Starts that must not happen, and disks that stop playing along: each is answered with what is wrong.

use crate::{
    installation::{Installation, Running, copy_directory, finish, program, refuses},
    namespace::Namespace,
    phone::hotp_codes,
    tools::{curl, printed, text},
};
use serde_json::{Value, json};
use std::{
    fs::{self, File, OpenOptions},
    io::{ErrorKind, Seek, SeekFrom, Write},
    net::TcpListener,
    os::unix::fs::PermissionsExt,
    path::Path,
};

/// The size of a page of the database.
const PAGE: u64 = 4096;

#[test]
fn a_busy_port_is_named_and_the_data_is_left_alone() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = taken.local_addr().expect("an address").to_string();
    let home = tempfile::tempdir().expect("temporary directory");
    let data = home.path().join("data");

    let mut command = program();
    command.args(["serve", "--listen", &address, "--data"]).arg(&data);
    refuses(command, &[&address, "another program uses the port", "--listen"]);

    assert!(!data.exists(), "nothing was made");
}

#[test]
fn a_data_directory_has_one_server() {
    let installation = Installation::new();
    let server = installation.serve();

    installation.refuses_to_serve(&["another countersign server is using it", "--data"]);
    let migration = installation.run(["store", "migrate"]);
    assert_eq!(migration.status.code(), Some(1));

    assert_eq!(curl([server.at("/readyz")]).status, 200, "the first one goes on");
    server.kill();
    installation.serve();
}

#[test]
fn a_dialect_of_no_organisation_is_a_mistake_in_the_file() {
    let installation = Installation::new();
    let file = installation.beside("countersign.toml");
    fs::write(&file, "[dialects.veeam]\norganisation = \"acme\"\n").expect("write");
    let said = "dialects.veeam.organisation: there is no organisation acme";
    let serve = ["serve", "--listen", "127.0.0.1:0"];
    let mut by_file = installation.command(serve);
    by_file.arg("--config").arg(&file);
    let mut by_variable = installation.command(serve);
    by_variable.env("COUNTERSIGN__DIALECTS__RSA__ORGANISATION", "acme");

    let output = finish(by_file);

    assert_eq!(output.status.code(), Some(2), "as other mistakes in it");
    assert!(
        text(&output.stderr).contains(&format!("{}: {said}", file.display())),
        "{}",
        text(&output.stderr)
    );
    refuses(by_variable, &["environment variable COUNTERSIGN__DIALECTS__RSA__ORGANISATION: there is no"]);
}

#[test]
fn a_second_init_changes_nothing() {
    let installation = Installation::new();
    let key = fs::read(installation.data.join("master.key")).expect("key");

    let again = installation.run(["init"]);

    assert_eq!(again.status.code(), Some(1));
    assert!(text(&again.stderr).contains("is initialised already"), "{}", text(&again.stderr));
    assert_eq!(fs::read(installation.data.join("master.key")).expect("key"), key);
    assert_eq!(installation.serve().get(&installation.client(), "/v1/users").status, 200);
}

#[test]
fn what_is_no_directory_is_no_data_directory() {
    let installation = Installation::new();
    let file = installation.beside("file");
    fs::write(&file, "text").expect("write");

    let mut command = installation.command(["serve", "--listen", "127.0.0.1:0", "--data"]);
    command.arg(&file);

    refuses(command, &["open data directory", "file"]);
}

#[test]
fn a_damaged_database_is_not_served() {
    type Damage = fn(&Path);
    let damages: [(&str, Damage); 4] = [
        ("another kind of file", |path| fs::write(path, "dear diary\n".repeat(9999)).expect("write")),
        ("its first page gone", |path| overwrite(path, 0, 1)),
        ("pages within gone", |path| overwrite(path, 1, 6)),
        ("its second half gone", |path| {
            let file = OpenOptions::new().write(true).open(path).expect("open");
            file.set_len(10 * PAGE).expect("cut");
        }),
    ];
    for (damage, inflict) in damages {
        let installation = Installation::new();
        inflict(&installation.database());

        let message = installation.refuses_to_serve(&["database", "the file is damaged", "restore a backup"]);
        let doctor = installation.run(["doctor"]);

        assert_eq!(doctor.status.code(), Some(6), "{damage}: {message}{}", text(&doctor.stdout));
    }
}

fn overwrite(path: &Path, first: u64, pages: u64) {
    let mut file = OpenOptions::new().write(true).open(path).expect("open");
    file.seek(SeekFrom::Start(first * PAGE)).expect("seek");
    let noise: Vec<u8> = (0..pages * PAGE).map(|at| (at % 251) as u8).collect();
    file.write_all(&noise).expect("write");
}

#[test]
fn a_key_that_does_not_fit_is_not_used() {
    let installation = Installation::new();
    let other = Installation::new();
    let key = installation.data.join("master.key");
    let right = fs::read(&key).expect("key");
    let shown = key.display().to_string();

    fs::write(&key, "nonsense").expect("write");
    installation.refuses_to_serve(&["read master key", &shown, "restore it from your backup"]);

    fs::write(&key, &right[..right.len() - 9]).expect("write");
    installation.refuses_to_serve(&["read master key", &shown, "restore it from your backup"]);

    fs::copy(other.data.join("master.key"), &key).expect("copy");
    installation
        .refuses_to_serve(&["not the master key the database was made with", "restore the right one"]);

    fs::write(&key, &right).expect("write");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).expect("chmod");
    installation.refuses_to_serve(&["others may read it", &format!("chmod 600 {shown}")]);

    fs::remove_file(&key).expect("remove");
    installation.refuses_to_serve(&[&shown, "is missing", "restore it from your backup"]);
    assert!(!key.exists(), "no new key is made for an old database");

    fs::write(&key, &right).expect("write");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).expect("chmod");
    installation.serve();
}

#[test]
fn a_key_without_its_database_is_not_the_beginning_of_a_new_one() {
    let installation = Installation::new();
    let database = fs::read(installation.database()).expect("read");
    // What a copy that failed leaves behind.
    fs::write(installation.database(), "").expect("empty");
    installation.refuses_to_serve(&["master key but no database", "restore the database from your backup"]);
    fs::remove_file(installation.database()).expect("remove");

    installation.refuses_to_serve(&["master key but no database", "restore the database from your backup"]);
    assert_eq!(installation.run(["init"]).status.code(), Some(1));

    assert!(!installation.database().exists(), "nothing was made");
    fs::write(installation.database(), database).expect("write");
    installation.serve();
}

#[test]
fn a_key_kept_elsewhere_is_found_or_missed_by_its_name() {
    let installation = Installation::new();
    let elsewhere = installation.beside("elsewhere.key");
    fs::rename(installation.data.join("master.key"), &elsewhere).expect("move");
    let mut command = installation.command(["serve", "--listen", "127.0.0.1:0"]);
    command.env("COUNTERSIGN__KEYS__MASTER_KEY_FILE", &elsewhere);
    drop(Running::start(command));

    let mut command = installation.command(["serve", "--listen", "127.0.0.1:0"]);
    command.env("COUNTERSIGN__KEYS__MASTER_KEY_FILE", "/nowhere/at/all.key");
    refuses(command, &["read key file /nowhere/at/all.key", "No such file"]);
}

#[test]
fn a_configuration_with_a_mistake_is_refused_by_name() {
    let installation = Installation::new();
    let file = installation.beside("countersign.toml");
    for (text, expected) in [
        ("[server]\nlitsen = \"127.0.0.1:0\"\n", "litsen"),
        ("[serber]\n", "serber"),
        ("[server]\nbody_bytes = \"many\"\n", "expected usize"),
        ("[server]\nbody_bytes = 1\n", "server.body_bytes"),
        ("[server]\ncertificate_file = \"a.pem\"\n", "server.private_key_file"),
        ("[server]\ntrusted_proxies = [\"my proxy\"]\n", "my proxy"),
        ("[log]\nfilter = \"countersign=loud\"\n", "log.filter"),
        ("[server\n", "line 1"),
    ] {
        fs::write(&file, text).expect("write");
        let mut command = installation.command(["serve", "--listen", "127.0.0.1:0", "--config"]);
        command.arg(&file);
        refuses(command, &[expected]);
    }
    fs::remove_file(&file).expect("remove");
    let mut command = installation.command(["serve", "--listen", "127.0.0.1:0", "--config"]);
    command.arg(&file);
    refuses(command, &["read configuration", &file.display().to_string(), "No such file"]);

    let mut command = installation.command(["serve", "--listen", "127.0.0.1:0"]);
    command.env("COUNTERSIGN__SERVER__LITSEN", "127.0.0.1:0");
    refuses(command, &["litsen"]);
}

#[test]
fn a_start_that_fails_does_not_use_up_the_first_credentials() {
    let home = tempfile::tempdir().expect("temporary directory");
    let serve = || {
        let mut command = program();
        command.args(["serve", "--listen", "127.0.0.1:0"]).current_dir(home.path());
        command
    };

    // It was found after the accounts had been made, and nobody was ever told their secrets.
    let mut mistaken = serve();
    mistaken.env("COUNTERSIGN__SERVER__TRUSTED_PROXIES", "[\"my proxy\"]");
    refuses(mistaken, &["server.trusted_proxies", "my proxy"]);

    Running::start(serve()).wait_for_log("Client secret");
}

#[test]
fn a_restored_copy_serves_what_it_held() {
    let installation = Installation::new();
    let server = installation.serve();
    server.post(&installation.client(), "/v1/users", &json!({"username": "ada"})).json(201);
    assert!(server.terminate().0.success());

    let copy = installation.beside("copy");
    copy_directory(&installation.data, &copy);
    let mut command = installation.command(["serve", "--listen", "127.0.0.1:0", "--data"]);
    command.arg(&copy);
    let server = Running::start(command);

    assert_eq!(server.get(&installation.client(), "/v1/users/ada").status, 200);
}

#[test]
fn a_read_only_data_directory_is_named() {
    let mut installation = Installation::new();
    let data = installation.data.display().to_string();
    let setup = format!("mount --bind '{data}' '{data}'; mount -o remount,bind,ro '{data}'");
    let Some(namespace) = Namespace::new(&setup) else { return };
    installation.through = namespace.entrance();

    installation.refuses_to_serve(&[&data, "Read-only file system", "let the server's user write to it"]);

    installation.through.clear();
    installation.serve();
}

#[test]
fn a_full_disk_denies_and_loses_nothing() {
    let home = tempfile::tempdir().expect("temporary directory");
    let disk = home.path().join("disk");
    fs::create_dir(&disk).expect("create");
    let Some(namespace) = Namespace::new(&format!("mount -t tmpfs -o size=4m tmpfs '{}'", disk.display()))
    else {
        return;
    };
    let installation = Installation::init(home, disk.join("data"), namespace.entrance());
    let ballast = namespace.path(&disk.join("ballast"));

    let server = installation.serve();
    let mut holder = Holder::new(&installation, &server);
    holder.is_accepted(&server);
    fill(&ballast);
    holder.is_denied_until(&server, || fs::remove_file(&ballast).expect("remove"));
    server.wait_for_log("disk is full");
    assert!(server.terminate().0.success());

    fill(&ballast);
    installation.refuses_to_serve(&["No space left", "free space"]);
    fs::remove_file(&ballast).expect("remove");
    holder.is_remembered(&installation.serve());
    assert_eq!(installation.verify_audit().status.code(), Some(0));
}

/// Takes all the space there is.
fn fill(ballast: &Path) {
    let mut file = File::create(ballast).expect("create");
    for size in [64 * 1024, 4096, 512] {
        let piece = vec![0; size];
        loop {
            match file.write_all(&piece) {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::StorageFull => break,
                Err(error) => panic!("fill the disk: {error}"),
            }
        }
    }
}

#[test]
fn a_disk_that_refuses_writes_denies_and_loses_nothing() {
    let home = tempfile::tempdir().expect("temporary directory");
    let data = home.path().join("data");
    // With the signal ignored, a write beyond the limit fails like one to a disk over its quota.
    let through = ["sh", "-c", "trap '' XFSZ; exec \"$@\"", "sh"].map(Into::into).to_vec();
    let installation = Installation::init(home, data, through);

    let server = installation.serve();
    let process = format!("--pid={}", server.process());
    let limit = |bytes: &str| printed("prlimit", [&process, &format!("--fsize={bytes}:")]);
    let mut holder = Holder::new(&installation, &server);
    holder.is_accepted(&server);
    limit("0");
    assert_eq!(curl([server.at("/readyz")]).status, 503, "no durable commit, not ready");
    holder.is_denied_until(&server, || drop(limit("unlimited")));
    server.kill();

    holder.is_remembered(&installation.serve());
    assert_eq!(installation.verify_audit().status.code(), Some(0));
}

/// Somebody with a counter-based token, whose codes say what the server remembers.
struct Holder {
    client: String,
    codes: Vec<String>,
    accepted: usize,
}

impl Holder {
    fn new(installation: &Installation, server: &Running) -> Self {
        const SECRET: &str = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ";
        let client = installation.client();
        server.post(&client, "/v1/users", &json!({"username": "ada"})).json(201);
        let token = json!({"type": "hotp", "secret": SECRET, "digits": 8});
        server.post(&client, "/v1/users/ada/factors", &token).json(201);
        Self { client, codes: hotp_codes(SECRET, 500), accepted: 0 }
    }

    fn try_code(&self, server: &Running, number: usize) -> (u16, Value) {
        let body = json!({"user": "ada", "code": self.codes[number]});
        let answer = server.post(&self.client, "/v1/verify", &body);
        (answer.status, answer.json(answer.status))
    }

    /// Has the next code accepted.
    #[track_caller]
    fn is_accepted(&mut self, server: &Running) {
        let (status, body) = self.try_code(server, self.accepted);
        assert_eq!((status, &body["result"]), (200, &json!("accepted")), "{body}");
        self.accepted += 1;
    }

    /// Uses codes until one is answered with "unavailable", then lets the disk work again: that code is still good.
    #[track_caller]
    fn is_denied_until(&mut self, server: &Running, repair: impl FnOnce()) {
        // What fits into blocks the disk has given already may still be committed.
        let denied = loop {
            let (status, body) = self.try_code(server, self.accepted);
            if status == 503 {
                break body;
            }
            assert_eq!((status, &body["result"]), (200, &json!("accepted")), "{body}");
            self.accepted += 1;
        };
        assert_eq!(denied["code"], "store_unavailable", "{denied}");
        assert!(denied["requestId"].is_string(), "{denied}");
        assert_eq!(curl([server.at("/healthz")]).status, 200);
        let read = server.get(&self.client, "/v1/users/ada");
        assert_eq!(read.status, 200, "what is there can be read: {read:?}");
        repair();

        assert_eq!(curl([server.at("/readyz")]).status, 200);
        self.is_remembered(server);
        self.is_accepted(server);
    }

    /// Makes sure that no accepted code is acceptable again.
    #[track_caller]
    fn is_remembered(&self, server: &Running) {
        for number in (0..self.accepted).rev().take(3) {
            let (status, body) = self.try_code(server, number);
            assert_eq!(status, 200, "{body}");
            assert_ne!(body["result"], "accepted", "code {number} of {}", self.accepted);
        }
        server.post(&self.client, "/v1/users/ada/unlock", &json!({})).json(200);
    }
}

#[test]
fn a_command_without_a_server_says_so() {
    let mut command = program();
    command
        .args(["user", "list", "--url", "http://127.0.0.1:9"])
        .env("COUNTERSIGN_CLIENT_ID", "c")
        .env("COUNTERSIGN_CLIENT_SECRET", "s");

    let message = refuses(command, &["127.0.0.1:9", "hint: "]);

    assert!(message.lines().count() <= 4, "{message}");
}

#[test]
fn what_is_not_there_is_not_examined_into_being() {
    let home = tempfile::tempdir().expect("temporary directory");
    let data = home.path().join("nothing");
    for arguments in [&["doctor"][..], &["audit", "verify"]] {
        let mut command = program();
        command.args(arguments).arg("--data").arg(&data);

        let output = finish(command);

        assert_ne!(output.status.code(), Some(0));
        assert!(!data.exists(), "{arguments:?}");
    }
}

//! `countersign init`: makes an installation and its first credentials.

use super::{
    failure::Failure,
    installation::Installation,
    screen::{Screen, Tone},
};
use countersign_core::Secret;
use serde_json::{Value, json};

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example: countersign init --data /var/lib/countersign --json > first-credentials.json"
)]
pub(super) struct Args {
    #[command(flatten)]
    pub installation: Installation,
    /// Print the credentials as JSON
    #[arg(long)]
    pub json: bool,
}

/// What a new installation begins with. Shown once.
#[derive(Debug)]
pub(super) struct FirstCredentials {
    /// The first organisation's id.
    pub organisation_id: String,
    /// Its slug.
    pub organisation_slug: String,
    /// Its name.
    pub organisation_name: String,
    /// The owner's username.
    pub admin_username: String,
    /// The owner's password.
    pub admin_password: Secret<String>,
    /// The first service client's id.
    pub client_id: String,
    /// Its secret.
    pub client_secret: Secret<String>,
    /// Its scopes.
    pub client_scopes: Vec<String>,
    /// The data directory.
    pub data: String,
}

impl FirstCredentials {
    fn to_json(&self) -> Value {
        json!({
            "organisation": {
                "id": self.organisation_id,
                "slug": self.organisation_slug,
                "name": self.organisation_name,
            },
            "admin": {"username": self.admin_username, "password": self.admin_password.expose()},
            "client": {
                "id": self.client_id,
                "secret": self.client_secret.expose(),
                "scopes": self.client_scopes,
            },
            "data": self.data,
        })
    }

    fn to_text(&self, screen: Screen) -> String {
        let organisation = format!("{} ({})", self.organisation_name, self.organisation_slug);
        let pairs = [
            ("Organisation", organisation),
            ("Administrator", self.admin_username.clone()),
            ("Password", self.admin_password.expose().clone()),
            ("Client id", self.client_id.clone()),
            ("Client secret", self.client_secret.expose().clone()),
            ("Client scopes", self.client_scopes.join(" ")),
            ("Data", self.data.clone()),
        ];
        let rule = screen.paint(Tone::Quiet, &"─".repeat(78));
        let title = screen
            .paint(Tone::Strong, "First credentials. They show only now: store them, then clear the screen.");
        format!("{rule}\n{title}\n\n{}{rule}\n", screen.pairs(&pairs))
    }
}

/// Prints the first credentials for people.
pub(super) fn print(credentials: &FirstCredentials) -> Result<(), Failure> {
    let screen = Screen::new();
    screen.print(&credentials.to_text(screen))
}

/// Makes the installation with `initialise`, and prints what it begins with.
pub(super) async fn run(
    args: Args,
    initialise: impl AsyncFnOnce(&Installation) -> Result<FirstCredentials, Failure>,
) -> Result<(), Failure> {
    let credentials = initialise(&args.installation).await?;
    if args.json { Screen::new().json(&credentials.to_json()) } else { print(&credentials) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn credentials() -> FirstCredentials {
        FirstCredentials {
            organisation_id: "01990163-8694-739b-aea5-966c26f8ad91".into(),
            organisation_slug: "default".into(),
            organisation_name: "Default".into(),
            admin_username: "admin".into(),
            admin_password: "correct horse battery".to_owned().into(),
            client_id: "01990163-8694-739b-aea5-966c26f8ad92".into(),
            client_secret: "a".repeat(43).into(),
            client_scopes: vec!["verify".into(), "users:read".into()],
            data: "/var/lib/countersign".into(),
        }
    }

    #[test]
    fn the_json_has_the_members_machines_rely_on() {
        let json = credentials().to_json();

        for pointer in [
            "/organisation/id",
            "/organisation/slug",
            "/organisation/name",
            "/admin/username",
            "/admin/password",
            "/client/id",
            "/client/secret",
            "/client/scopes/0",
            "/data",
        ] {
            assert!(json.pointer(pointer).is_some_and(Value::is_string), "{pointer}");
        }
    }

    #[test]
    fn the_text_fits_into_80_columns_and_shows_each_credential() {
        let text = credentials().to_text(Screen { colours: false, width: None });

        assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
        assert!(text.contains("correct horse battery") && text.contains(&"a".repeat(43)));
    }
}

//! `countersign login`: signs a person in once for several commands.

use super::{
    api::{Api, Server},
    credentials::Credentials,
    failure::Failure,
    screen::{Screen, text},
};

#[derive(Debug, clap::Args)]
#[command(after_help = "Example: eval \"$(countersign login)\"\n\n\
                        Reads COUNTERSIGN_USERNAME and COUNTERSIGN_PASSWORD_FILE, asks for the second factor's code, and\n\
                        prints COUNTERSIGN_TOKEN for the shell. The token lives some minutes and is never stored.")]
pub(super) struct Args {
    #[command(flatten)]
    server: Server,
}

pub(super) async fn run(args: Args) -> Result<(), Failure> {
    let tokens = Api::anonymous(&args.server)?.sign_in(Credentials::person_from_environment()?).await?;

    let screen = Screen::new();
    if args.server.json {
        return screen.json(&tokens);
    }
    screen.print(&export(text(&tokens, "/access_token"))?)
}

/// Returns the line a shell evaluates. A token is made of characters no shell knows; anything else is refused.
fn export(token: &str) -> Result<String, Failure> {
    if token.is_empty()
        || !token.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.~+/=".contains(&byte))
    {
        return Err(Failure::new("the server's token has characters a token cannot have"));
    }
    Ok(format!("export COUNTERSIGN_TOKEN={token}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shell_gets_nothing_but_a_token_to_evaluate() {
        assert_eq!(export("eyJ.abc-_").expect("token"), "export COUNTERSIGN_TOKEN=eyJ.abc-_");
        assert!(export("x; rm -rf /").is_err());
        assert!(export("").is_err());
    }
}

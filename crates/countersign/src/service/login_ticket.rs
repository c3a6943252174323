//! Tokens for the second step of a sign-in in few characters, for clients that have no room for more.
//!
//! Like a [`super::ticket::Ticket`] it is a keyed hash of what it stands for, and nothing of it is stored but the open
//! login. Unlike one it names only the person: which of their open logins is meant, the hash tells. It is read in the
//! organisation whose clients use it, and a token of nobody takes the same path as one of somebody.

use super::tokens::SecondStepToken;
use crate::{app::App, error::Result};
use countersign_core::{
    Handle, Keyring, LoginId, OrganisationId, Secret, Timestamp, User, UserId,
    keyring::{Binding, KeyError, Purpose, TAG_BYTES},
};
use data_encoding::{BASE64, HEXUPPER};
use subtle::ConstantTimeEq;
use uuid::Uuid;

/// The bits of a UUIDv8 that are ours to fill: all but version and variant (RFC 9562 §5.8).
const OURS: u128 = !((0xF << 76) | (0b11 << 62));

/// How a token is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LoginTicket {
    /// 88 characters: Base64 of 64 upper-case hexadecimal digits, the person's id and 128 bits of the hash.
    Hex88,
    /// A UUIDv8: the person's number in 48 bits, and 74 bits of the hash.
    Uuid,
}

/// Writes the token of an open login.
pub fn write(app: &App, form: LoginTicket, user: &User, step: &SecondStepToken) -> Result<Secret<String>> {
    let hash = hash(app, step.organisation, step.user, step.login)?;
    Ok(match form {
        LoginTicket::Hex88 => {
            let bytes = [*user.id.uuid().as_bytes(), hash].concat();
            BASE64.encode(HEXUPPER.encode(&bytes).as_bytes()).into()
        }
        LoginTicket::Uuid => uuid_of(user.number, hash).to_string().into(),
    })
}

/// Returns the open login a token stands for, in one organisation; `None` if it stands for none.
pub async fn read(
    app: &App,
    form: LoginTicket,
    organisation: OrganisationId,
    text: &str,
    now: Timestamp,
) -> Result<Option<SecondStepToken>> {
    let Some(claimed) = Claimed::parse(form, text) else { return Ok(None) };
    let id = match claimed.whose {
        Whose::Id(id) => id,
        Whose::Number(number) => {
            let found = app.store.find(organisation, &Handle::Number(number)).await?;
            found.unwrap_or(UserId::from_uuid(Uuid::nil()))
        }
    };
    let Some(user) = app.store.user(organisation, id).await? else { return Ok(None) };
    let mut found = None;
    for login in user.logins.iter().filter(|login| login.expires_at > now) {
        // Not left at the first match, so that the time tells nothing.
        if claimed.is_of(hash(app, organisation, user.id, login.id)?) {
            found = Some(SecondStepToken { organisation, user: user.id, login: login.id });
        }
    }
    Ok(found)
}

enum Whose {
    Id(UserId),
    Number(u64),
}

/// What a token says, before anybody knows whether it is one of ours.
struct Claimed {
    whose: Whose,
    hash: [u8; TAG_BYTES],
    form: LoginTicket,
}

impl Claimed {
    fn parse(form: LoginTicket, text: &str) -> Option<Self> {
        match form {
            LoginTicket::Hex88 => {
                let bytes = read_hex88(text)?;
                let (id, hash) = bytes.split_first_chunk()?;
                let whose = Whose::Id(UserId::from_uuid(Uuid::from_bytes(*id)));
                Some(Self { whose, hash: hash.try_into().ok()?, form })
            }
            LoginTicket::Uuid => {
                let bits = Uuid::try_parse(text).ok()?.as_u128();
                let whose = Whose::Number(u64::try_from(bits >> 80).ok()?);
                Some(Self { whose, hash: bits.to_be_bytes(), form })
            }
        }
    }

    fn is_of(&self, hash: [u8; TAG_BYTES]) -> bool {
        match (self.form, &self.whose) {
            (LoginTicket::Uuid, Whose::Number(number)) => {
                uuid_of(*number, hash).as_bytes().ct_eq(&self.hash).into()
            }
            _ => hash.ct_eq(&self.hash).into(),
        }
    }
}

/// Reads 32 bytes written as Base64 of 64 hexadecimal digits.
pub fn read_hex88(text: &str) -> Option<[u8; 32]> {
    let digits = BASE64.decode(text.as_bytes()).ok()?;
    HEXUPPER.decode(&digits).ok()?.try_into().ok()
}

/// Writes 32 bytes as Base64 of 64 hexadecimal digits.
pub fn write_hex88(bytes: &[u8; 32]) -> Secret<String> {
    BASE64.encode(HEXUPPER.encode(bytes).as_bytes()).into()
}

fn uuid_of(number: u64, hash: [u8; TAG_BYTES]) -> Uuid {
    let bits = (u128::from(number) << 80) | (u128::from_be_bytes(hash) >> 48);
    Uuid::from_u128((bits & OURS) | (8 << 76) | (0b10 << 62))
}

fn hash(
    app: &App,
    organisation: OrganisationId,
    user: UserId,
    login: LoginId,
) -> Result<[u8; TAG_BYTES], KeyError> {
    let binding = Binding::of_user(Purpose::LoginTicket, organisation, user, login.uuid());
    Ok(app.keys.tag(&binding, None, b"")?.bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_token_is_a_uuid_of_version_8_that_names_a_number() {
        let uuid = uuid_of(1007, [0xFF; TAG_BYTES]);

        assert_eq!(
            uuid.to_string(),
            "0000000003ef-8fff-bfff-ffffffffffff".replacen("0000000003ef", "00000000-03ef", 1)
        );
        assert_eq!((uuid.get_version_num(), uuid.get_variant()), (8, uuid::Variant::RFC4122));
        let whose = Claimed::parse(LoginTicket::Uuid, &uuid.to_string()).map(|claimed| claimed.whose);
        assert!(matches!(whose, Some(Whose::Number(1007))));
    }

    #[test]
    fn what_is_not_of_the_form_is_nobodys() {
        let ours = write_hex88(&[0xAB; 32]);
        assert_eq!(ours.expose().len(), 88);
        assert_eq!(read_hex88(ours.expose()), Some([0xAB; 32]));

        let lower = BASE64.encode("ab".repeat(32).as_bytes());
        for text in ["", "AB", &ours.expose()[..84], &lower, &BASE64.encode(&[0xAB; 64])] {
            assert!(Claimed::parse(LoginTicket::Hex88, text).is_none(), "{text}");
        }
        assert!(Claimed::parse(LoginTicket::Uuid, "1007").is_none());
    }
}

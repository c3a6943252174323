//! Signing people in: password, second step, refresh, sign-out; invitations and passwords.
//!
//! To somebody who is not signed in, an unknown user, a wrong password and a locked one look and take the same: a slow
//! hash, a durable commit, the same refusal. Each of these runs to its end even if the caller goes away, so that hanging
//! up never saves a failure from being counted.

use super::{
    challenges::{self, Sent},
    factors::{self, Enrolled, Enrolment},
    organisations, short_codes,
    ticket::Ticket,
    tokens::{Issued, SecondStepToken},
};
use crate::{
    app::{App, Asker},
    error::{Error, Result},
};
use countersign_core::{
    Attempt, Call, ClientId, Code, Destination, FactorId, Handle, InvitationId, Kind, LoginId, Organisation,
    OrganisationId, Policy, Recipient, Refusal, Secret, SessionId, Timestamp, User, UserId,
    event::Actor,
    keyring::Purpose,
    password::{self, NewPassword},
    profile::{DisplayName, Label, matching_key},
    role::Rank,
    session::{EnrolmentStep, NewSession, Refresh, SecondStep, Session, SignIn},
};
use std::{sync::Arc, time::Duration};
use uuid::Uuid;

/// How often a check is computed anew when the password changes under it.
const STALE_TRIES: usize = 3;

/// What somebody signs in with.
pub struct Credentials {
    /// Whose people are looked among.
    pub organisation: Where,
    /// What was typed as username: also an e-mail address.
    pub username: String,
    /// What was typed as password.
    pub password: Secret<String>,
    /// The client that asks, if it named itself.
    pub client: Option<ClientId>,
    /// How long the session may last at most; as long as policy says if left out.
    pub session_life: Option<Duration>,
}

/// Where somebody signs in.
pub enum Where {
    /// In the first organisation.
    First,
    /// In the organisation of this id or slug.
    Named(String),
    /// In the whole installation: first in an organisation that is preferred, or else the first one, then by e-mail
    /// address in any. Of several with the same address it is the one in the oldest organisation.
    Anywhere {
        /// The organisation that comes first.
        prefer: Option<OrganisationId>,
    },
}

impl From<Option<String>> for Where {
    fn from(name: Option<String>) -> Self {
        name.map_or(Self::First, Self::Named)
    }
}

/// What a sign-in led to.
pub enum Grant {
    /// Access.
    Tokens {
        /// The tokens.
        pair: TokenPair,
        /// Who signed in.
        user: Box<User>,
    },
    /// A second step is asked for.
    SecondStep {
        /// The open login, to be handed out as a token of one form or another.
        step: SecondStepToken,
        /// How long it stays open.
        life: Duration,
        /// Whose first factor was right.
        user: Box<User>,
        /// Whether a factor is to be enrolled first.
        enrolment_required: bool,
        /// What it can be proved with.
        ways: Vec<Way>,
    },
    /// No; the caller learns nothing else.
    Refused,
}

/// One way to finish a sign-in.
pub struct Way {
    /// The kind of code.
    pub kind: Kind,
    /// The factor and what its person calls it; a recovery or emergency code is none, and the key behind a link that was
    /// mailed is not one yet.
    pub factor: Option<(FactorId, Label)>,
    /// Where codes are sent, if they are.
    pub destination: Option<Destination>,
}

/// An access token and the refresh token of its session.
pub struct TokenPair {
    /// The access token.
    pub access: Issued,
    /// The refresh token.
    pub refresh: Secret<String>,
}

/// Signs a person in by password.
pub async fn by_password(app: &Arc<App>, call: Call, credentials: Credentials) -> Result<Grant> {
    let app = Arc::clone(app);
    to_the_end(async move {
        let password = password::normalised(credentials.password.expose());
        let found = find(&app, &credentials.organisation, &credentials.username).await?;
        let Some((organisation, id)) = found else { return refuse_unknown(&app, password).await };

        let asker = Asker { organisation, call };
        for _ in 0..STALE_TRIES {
            match try_password(&app, &asker, id, &password, &credentials).await {
                Err(Error::Refused(Refusal::Stale)) => {}
                Err(Error::NotFound(_)) => return refuse_unknown(&app, password).await,
                outcome => return outcome,
            }
        }
        Err(Error::Busy)
    })
    .await
}

/// Does for nobody what is done for somebody: a read, a slow hash and a durable commit.
async fn refuse_unknown(app: &App, password: Secret<String>) -> Result<Grant> {
    app.store.user(OrganisationId::from_uuid(Uuid::nil()), UserId::from_uuid(Uuid::nil())).await?;
    app.passwords.check(password, None).await?;
    app.store.commit_decoy().await?;
    Ok(Grant::Refused)
}

async fn try_password(
    app: &App,
    asker: &Asker,
    id: UserId,
    password: &Secret<String>,
    credentials: &Credentials,
) -> Result<Grant> {
    let organisation = &asker.organisation;
    let user = app.store.user(organisation.id, id).await?.ok_or(Error::NotFound("user"))?;
    let check = app.passwords.check(password.clone(), user.password.map(|password| password.hash)).await?;
    let new = NewSession {
        session: SessionId::generate(asker.call.now, &mut rand::rng()),
        login: LoginId::generate(asker.call.now, &mut rand::rng()),
        client: credentials.client,
        life: credentials.session_life,
    };
    let (outcome, user) = app
        .change(asker, id, move |user, with| {
            Ok((user.sign_in(&check, new, with.policy, with.call)?, user.clone()))
        })
        .await?;
    match outcome {
        SignIn::Session(session) => granted(app, asker, user, &session),
        SignIn::SecondStep { login, has_factor } => Ok(Grant::SecondStep {
            step: SecondStepToken { organisation: organisation.id, user: id, login: login.id },
            life: Duration::from_secs(organisation.policy.sessions.second_step_seconds),
            enrolment_required: !has_factor,
            ways: ways(&user, &organisation.policy, asker.call.now),
            user: Box::new(user),
        }),
        SignIn::Refused => Ok(Grant::Refused),
    }
}

fn ways(user: &User, policy: &Policy, now: Timestamp) -> Vec<Way> {
    let factors = user.active_factors().map(|held| Way {
        kind: held.proof.kind(),
        factor: Some((held.id, held.label.clone())),
        destination: held.proof.destination().cloned(),
    });
    let stand_in = |kind, is_there: bool| is_there.then_some(Way { kind, factor: None, destination: None });
    let recovery = user.recovery.as_ref().is_some_and(|codes| codes.remaining() > 0);
    let emergency = user.emergency.as_ref().is_some_and(|code| code.is_good(now));
    factors
        .chain(stand_in(Kind::Totp, !user.has_active_factor() && user.open_enrolment_link(now)))
        .chain(stand_in(Kind::Recovery, recovery))
        .chain(stand_in(Kind::Emergency, emergency))
        .filter(|way| policy.allows(way.kind))
        .collect()
}

/// Finds whom somebody means by a username or an address.
pub(super) async fn find(
    app: &App,
    place: &Where,
    typed: &str,
) -> Result<Option<(Arc<Organisation>, UserId)>> {
    let found = match organisation(app, place).await? {
        Some(organisation) => find_in(app, organisation, typed).await?,
        None => None,
    };
    match (&found, place) {
        (None, Where::Anywhere { .. }) => find_anywhere(app, typed).await,
        _ => Ok(found),
    }
}

async fn find_in(
    app: &App,
    organisation: Arc<Organisation>,
    typed: &str,
) -> Result<Option<(Arc<Organisation>, UserId)>> {
    let by_name = app.store.find(organisation.id, &Handle::Username(matching_key(typed))).await?;
    let id = match by_name {
        None if typed.contains('@') => app.store.find(organisation.id, &Handle::email(typed)).await?,
        found => found,
    };
    Ok(id.map(|id| (organisation, id)))
}

async fn find_anywhere(app: &App, email: &str) -> Result<Option<(Arc<Organisation>, UserId)>> {
    let found = app.store.find_anywhere(&matching_key(email)).await?;
    let Some((organisation, id)) = found.first() else { return Ok(None) };
    let organisation = app.store.organisation(*organisation).await?;
    Ok(organisation.map(|organisation| (organisation, *id)))
}

async fn organisation(app: &App, place: &Where) -> Result<Option<Arc<Organisation>>> {
    match place {
        Where::Named(name) => organisations::find(app, name).await,
        Where::Anywhere { prefer: Some(id) } => app.store.organisation(*id).await,
        Where::First | Where::Anywhere { prefer: None } => organisations::first(app).await,
    }
}

/// Finishes a sign-in by a code, or by the first code of a factor enrolled during it.
pub async fn second_step(
    app: &Arc<App>,
    call: Call,
    token: SecondStepToken,
    attempt: Attempt,
    enrolled: Option<FactorId>,
) -> Result<Grant> {
    let app = Arc::clone(app);
    to_the_end(async move {
        let asker = asker_of(&app, &token, call).await?;
        let outcome = match enrolled {
            Some(factor) => finish_by_enrolment(&app, &asker, token, factor, attempt.code).await?,
            None => {
                let whose = token.user.into();
                let finish = |attempt| finish(&app, &asker, token, attempt);
                short_codes::attempt(&app, &asker, &whose, attempt, finish).await?
            }
        };
        match outcome {
            Some((session, user)) => granted(&app, &asker, user, &session),
            None => Ok(Grant::Refused),
        }
    })
    .await
}

async fn finish(
    app: &App,
    asker: &Asker,
    token: SecondStepToken,
    attempt: Attempt,
) -> Result<Option<(Session, User)>> {
    let session = SessionId::generate(asker.call.now, &mut rand::rng());
    app.change(asker, token.user, move |user, with| {
        match user.second_step(token.login, &attempt, session, with.policy, with.keys, with.call)? {
            SecondStep::Session(session) => Ok(Some((session, user.clone()))),
            SecondStep::Refused(_) => Ok(None),
        }
    })
    .await
}

async fn finish_by_enrolment(
    app: &App,
    asker: &Asker,
    token: SecondStepToken,
    factor: FactorId,
    code: Code,
) -> Result<Option<(Session, User)>> {
    let session = SessionId::generate(asker.call.now, &mut rand::rng());
    app.change(asker, token.user, move |user, with| {
        let (policy, keys, call) = (with.policy, with.keys, with.call);
        match user.activate_in_login(token.login, factor, &code, session, policy, keys, call)? {
            EnrolmentStep::Session(session) => Ok(Some((session, user.clone()))),
            EnrolmentStep::Refused(_) => Ok(None),
        }
    })
    .await
}

/// Enrols the first factor of somebody who was asked for a second step and has none.
pub async fn enrol(app: &App, call: Call, token: SecondStepToken, enrolment: Enrolment) -> Result<Enrolled> {
    let asker = asker_of(app, &token, call).await?;
    factors::enrol_in_login(app, &asker, token.user, token.login, enrolment).await
}

/// Sends a code to finish a sign-in with.
pub async fn challenge(app: &App, call: Call, token: SecondStepToken, recipient: Recipient) -> Result<Sent> {
    let asker = asker_of(app, &token, call).await?;
    challenges::send_in_login(app, &asker, token.user, token.login, recipient).await
}

/// Takes a session one generation further.
pub async fn refresh(app: &App, call: Call, token: &str, client: Option<ClientId>) -> Result<Grant> {
    resume(app, call, token, move |user, session, generation, call| {
        Ok(match user.refresh(session, generation, client, call)? {
            Refresh::Session(session) => Some(session),
            Refresh::Reused => None,
        })
    })
    .await
}

/// Lets a session go on under the same refresh token, for the client it belongs to.
pub async fn renew(app: &App, call: Call, token: &str, client: ClientId) -> Result<Grant> {
    resume(app, call, token, move |user, session, generation, call| {
        user.renew(session, generation, client, call).map(Some)
    })
    .await
}

/// Has a rule decide whether the session of a refresh token goes on.
async fn resume(
    app: &App,
    call: Call,
    token: &str,
    mut decide: impl FnMut(&mut User, SessionId, u32, &Call) -> Result<Option<Session>, Refusal> + Send + 'static,
) -> Result<Grant> {
    let Some(ticket) = Ticket::read(token, Purpose::RefreshToken, app.keys.as_ref()) else {
        return Ok(Grant::Refused);
    };
    let Some(organisation) = app.store.organisation(ticket.organisation).await? else {
        return Ok(Grant::Refused);
    };
    let asker = Asker { organisation, call: Call { actor: Actor::User(ticket.user), ..call } };
    let session = SessionId::from_uuid(ticket.item);
    let outcome = app
        .change(&asker, ticket.user, move |user, with| {
            Ok((decide(user, session, ticket.generation, with.call)?, user.clone()))
        })
        .await;
    match outcome {
        Ok((Some(session), user)) => granted(app, &asker, user, &session),
        Ok((None, _))
        | Err(Error::Refused(Refusal::TokenGone | Refusal::UserDisabled) | Error::NotFound(_)) => {
            Ok(Grant::Refused)
        }
        Err(error) => Err(error),
    }
}

/// Ends the session of a refresh token.
pub async fn revoke_refresh_token(app: &App, call: Call, token: &str) -> Result<()> {
    let Some(ticket) = Ticket::read(token, Purpose::RefreshToken, app.keys.as_ref()) else { return Ok(()) };
    let Some(organisation) = app.store.organisation(ticket.organisation).await? else { return Ok(()) };
    let asker = Asker { organisation, call: Call { actor: Actor::User(ticket.user), ..call } };
    match sign_out(app, &asker, ticket.user, SessionId::from_uuid(ticket.item)).await {
        Err(Error::NotFound(_)) => Ok(()),
        outcome => outcome,
    }
}

/// Ends a session.
pub async fn sign_out(app: &App, asker: &Asker, user: UserId, session: SessionId) -> Result<()> {
    app.change(asker, user, move |user, with| {
        user.end_session(session, with.call);
        Ok(())
    })
    .await
}

/// Changes a person's own password; `false` if the current one is not right.
pub async fn change_password(
    app: &Arc<App>,
    asker: &Asker,
    user: UserId,
    session: SessionId,
    current: Secret<String>,
    new: String,
) -> Result<bool> {
    let (app, asker) = (Arc::clone(app), asker.clone());
    to_the_end(async move {
        let stored = app.store.user(asker.organisation.id, user).await?.ok_or(Error::NotFound("user"))?;
        let new = NewPassword::parse("new", &new, &own_names(&stored))?;
        let hash = stored.password.map(|password| password.hash);
        let check = app.passwords.check(password::normalised(current.expose()), hash).await?;
        let hash = app.passwords.hash(Secret::new(new.expose().to_owned())).await?;
        app.change(&asker, user, move |user, with| {
            user.change_password(&check, hash.clone(), Some(session), with.policy, with.call)
        })
        .await
    })
    .await
}

/// Confirms by a person's own password that they are who they say; `false` if it is not right, which is counted.
pub async fn confirm_password(
    app: &Arc<App>,
    asker: &Asker,
    user: UserId,
    password: Secret<String>,
) -> Result<bool> {
    let (app, asker) = (Arc::clone(app), asker.clone());
    to_the_end(async move {
        let stored = app.store.user(asker.organisation.id, user).await?.ok_or(Error::NotFound("user"))?;
        let hash = stored.password.map(|password| password.hash);
        let check = app.passwords.check(password::normalised(password.expose()), hash).await?;
        app.change(&asker, user, move |user, with| user.confirm_password(&check, with.policy, with.call))
            .await
    })
    .await
}

/// Invites a person to set their password; returns the token, shown once, and when it lapses.
pub async fn invite(app: &App, asker: &Asker, handle: &Handle) -> Result<(Secret<String>, Timestamp)> {
    let user = app.resolve(asker.organisation.id, handle).await?;
    let id = InvitationId::generate(asker.call.now, &mut rand::rng());
    let invitation =
        app.change(asker, user, move |user, with| user.invite(id, with.policy, with.call)).await?;

    let ticket = Ticket {
        purpose: Purpose::Invitation,
        organisation: asker.organisation.id,
        user,
        item: id.uuid(),
        generation: 0,
    };
    Ok((ticket.write(app.keys.as_ref())?, invitation.expires_at))
}

/// Sets the password of the person who holds the invitation.
pub async fn accept_invitation(app: &App, call: Call, token: &str, password: &str) -> Result<()> {
    let gone = || Error::Refused(Refusal::TokenGone);
    let ticket = Ticket::read(token, Purpose::Invitation, app.keys.as_ref()).ok_or_else(gone)?;
    let organisation = app.store.organisation(ticket.organisation).await?.ok_or_else(gone)?;
    let user = app.store.user(organisation.id, ticket.user).await?.ok_or_else(gone)?;
    let password = NewPassword::parse("password", password, &own_names(&user))?;
    let hash = app.passwords.hash(Secret::new(password.expose().to_owned())).await?;

    let asker =
        Asker { organisation, call: Call { actor: Actor::User(user.id), rank: Rank::Nobody, ..call } };
    let invitation = InvitationId::from_uuid(ticket.item);
    app.change(&asker, user.id, move |user, with| user.accept_invitation(invitation, hash.clone(), with.call))
        .await
}

/// Makes the person of an open sign-in somebody who acts for themselves.
pub async fn asker_of(app: &App, token: &SecondStepToken, call: Call) -> Result<Asker> {
    let organisation = app.store.organisation(token.organisation).await?;
    let organisation = organisation.ok_or(Error::Refused(Refusal::TokenGone))?;
    // The first factor was right, so the person acts for themselves; what this allows, the open login decides.
    let rank = Rank::Themselves { second_factor: false };
    Ok(Asker { organisation, call: Call { actor: Actor::User(token.user), rank, ..call } })
}

pub(super) fn granted(app: &App, asker: &Asker, user: User, session: &Session) -> Result<Grant> {
    Ok(Grant::Tokens { pair: tokens(app, asker, &user, session)?, user: Box::new(user) })
}

fn tokens(app: &App, asker: &Asker, user: &User, session: &Session) -> Result<TokenPair> {
    let left = asker.call.now.until(session.expires_at);
    let life = Duration::from_secs(asker.organisation.policy.sessions.access_seconds).min(left);
    let ticket = Ticket {
        purpose: Purpose::RefreshToken,
        organisation: user.organisation,
        user: user.id,
        item: session.id.uuid(),
        generation: session.generation,
    };
    Ok(TokenPair {
        access: app.tokens.issue_to_person(user, session, asker.call.now, life)?,
        refresh: ticket.write(app.keys.as_ref())?,
    })
}

pub(super) fn own_names(user: &User) -> Vec<&str> {
    let email = user.email.as_ref().map(|email| email.as_str().split('@').next().unwrap_or_default());
    let names = [&user.display_name, &user.given_name, &user.family_name];
    let names = names.into_iter().flatten().map(DisplayName::as_str);
    std::iter::once(user.username.as_str()).chain(names).chain(email).collect()
}

/// Runs a use case to its end even if the one who asked goes away.
pub(super) async fn to_the_end<T: Send + 'static>(
    work: impl Future<Output = Result<T>> + Send + 'static,
) -> Result<T> {
    match tokio::spawn(work).await {
        Ok(outcome) => outcome,
        Err(error) => Err(Error::Internal(format!("sign in: {error}"))),
    }
}

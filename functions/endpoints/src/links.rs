//! One-time links to the console: made for somebody, looked at without being used, and used up
//! for a session. Only the hash of a code is kept.

use std::time::Duration;

use adapters::http::answer::{self, Problem};
use adapters::http::body;
use adapters::http::entry::Bearer;
use adapters::random;
use adapters::tokens::{KeptLink, KeptToken, TokenKind};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use domain::identity::sha256_hex;
use domain::token::LINK_S;
use domain::token_request;
use lambda_http::Body;
use lambda_http::http::{Response, StatusCode};
use serde_json::json;

use crate::Endpoints;
use crate::problems::away;
use crate::tokens::{by, ended, made, made_by, maker, unmade};

/// The random bytes of a code.
const CODE: usize = 32;
/// The longest body that a code comes in. Anybody may send one.
const MAX_BODY: usize = 1024;

impl Endpoints {
    /// Makes a link to the console.
    pub(crate) async fn make_link(
        &self,
        bearer: Option<&Bearer>,
        body: &Body,
        correlation_id: &str,
    ) -> Result<Response<String>, Problem> {
        let now = self.clock.now();
        let asked = token_request::link(body::json(body.as_ref())?, maker(bearer).as_ref(), now);
        let asked = asked.map_err(Problem::invalid)?;
        let epoch = self.epoch_for(&asked.scope, bearer).await?;
        self.refuse_erased(&asked.scope).await?;
        let code = URL_SAFE_NO_PAD.encode(random::bytes::<CODE>().map_err(|error| unmade(&error))?);
        let link = KeptLink {
            epoch,
            made_by: made_by(bearer),
            scope: asked.scope,
            read_only: asked.read_only,
            expires_at: now.after(Duration::from_secs(LINK_S)),
            session_ends_at: asked.expires_at,
        };
        let code_hash = sha256_hex(code.as_bytes());
        if !self.tokens.keep_link(&code_hash, &link).await.map_err(away)? {
            return Err(ended());
        }
        tracing::warn!(audit = true, scope = %link.scope, read_only = link.read_only,
            by = by(bearer), correlation_id, "a link to the console was made");
        let shown = json!({
            "code": code,
            // The fragment is not sent to any server.
            "path": format!("/console/app#code={code}"),
            "expires_at": link.expires_at.to_string(),
            "session_ends_at": link.session_ends_at.to_string(),
        });
        Ok(answer::json(StatusCode::CREATED, &shown, correlation_id))
    }

    /// The link of a code, if it can be used now.
    async fn usable(&self, code_hash: &str) -> Result<KeptLink, Problem> {
        let link = self.tokens.link(code_hash, self.clock.now()).await.map_err(away)?.ok_or_else(useless)?;
        let epoch = self.tokens.epoch(&link.scope).await.map_err(away)?;
        if link.epoch < epoch { Err(useless()) } else { Ok(link) }
    }

    /// Tells for whom a link is, without using it.
    pub(crate) async fn link(&self, code_hash: &str, correlation_id: &str) -> Result<Response<String>, Problem> {
        let link = self.usable(code_hash).await?;
        let shown = json!({
            "scope": link.scope,
            "read_only": link.read_only,
            "expires_at": link.expires_at.to_string(),
            "session_ends_at": link.session_ends_at.to_string(),
        });
        Ok(answer::json(StatusCode::OK, &shown, correlation_id))
    }

    /// Uses up a link, for a session.
    pub(crate) async fn open_session(&self, body: &Body, correlation_id: &str) -> Result<Response<String>, Problem> {
        if body.len() > MAX_BODY {
            return Err(Problem::too_large(format!("The body has more than {MAX_BODY} bytes.")));
        }
        let code = token_request::code(body::json(body.as_ref())?).map_err(Problem::invalid)?;
        let (code_hash, now) = (sha256_hex(code.as_bytes()), self.clock.now());
        let link = self.usable(&code_hash).await?;
        self.keyring.refresh().await;
        let session = KeptToken {
            id: Self::token_id()?,
            scope: link.scope.clone(),
            kind: TokenKind::Session,
            read_only: link.read_only,
            description: String::new(),
            epoch: link.epoch,
            made_by: link.made_by.as_ref().map(|maker| maker.id.clone()),
            created_at: now,
            expires_at: link.session_ends_at,
        };
        let text = self.token_text(&session)?;
        if !self.tokens.spend(&code_hash, &link, &session).await.map_err(away)? {
            return Err(useless());
        }
        tracing::warn!(audit = true, token = %session.id, scope = %session.scope, read_only = session.read_only,
            correlation_id, "a session of the console was opened");
        Ok(made(&session, &text, correlation_id))
    }
}

/// Whether it was used or is too old, it is gone.
fn useless() -> Problem {
    Problem::not_found(
        "The link was used, has expired or was never made. It works once, for a minute. Ask for a new one.",
    )
}

//! Calls of the API: signed by SigV4 with the credentials of the usual AWS chain, or with a token below `/api`.

use std::borrow::Cow;
use std::error::Error as _;
use std::time::{Duration, SystemTime};

use aws_credential_types::provider::ProvideCredentials as _;
use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningSettings, sign};
use aws_sigv4::sign::v4;
use bytes::Bytes;
use domain::names::is_endpoint_id;
use http::Method;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;
use serde_json::value::RawValue;
use url::Url;

use crate::client::{self, cause, client};
use crate::connection::{Connection, Place};
use crate::failure::Failure;
use crate::target;
use crate::text::clean;

/// The service that a signature names.
const SERVICE: &str = "execute-api";
/// The most items of a page.
const PAGE: usize = 200;

/// What may stay as it is in a segment of a path.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// An id as a segment of a path.
pub(crate) fn segment(id: &str) -> Cow<'_, str> {
    utf8_percent_encode(id, SEGMENT).into()
}

/// A client of the API.
pub(crate) struct Api {
    base: Url,
    caller: Caller,
    http: reqwest::Client,
}

/// Who calls.
enum Caller {
    Token(String),
    Signed { aws: Box<aws_types::SdkConfig>, region: String },
}

/// An answer that is no error.
#[derive(Debug)]
pub(crate) struct Answer {
    /// Its status code.
    pub(crate) status: u16,
    /// When the server says it is, as in the `date` header.
    pub(crate) date: Option<String>,
    /// Where else to ask, as in the `location` header. The API never says so.
    pub(crate) location: Option<String>,
    /// Its body, byte for byte.
    pub(crate) body: String,
}

impl Answer {
    /// Whether the answer is yes.
    pub(crate) fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// What an answer means that is not yes.
    pub(crate) fn failure(&self) -> Failure {
        match &self.location {
            Some(to) => Failure::Refused(format!("the URL is not that of the API: it leads on to {}", clean(to))),
            None => Failure::of_answer(self.status, &self.body),
        }
    }

    /// The body as a value.
    ///
    /// # Errors
    /// When it is not what is expected.
    pub(crate) fn read<'a, T: Deserialize<'a>>(&'a self) -> Result<T, Failure> {
        read(&self.body)
    }
}

/// JSON of an answer as a value.
///
/// # Errors
/// When it is not what is expected.
pub(crate) fn read<'a, T: Deserialize<'a>>(json: &'a str) -> Result<T, Failure> {
    serde_json::from_str(json).map_err(|error| {
        Failure::Refused(format!("the answer is not one of Steadhook's API, or of another version: {error}"))
    })
}

/// What a request asks with `?`.
pub(crate) type Query<'a> = &'a [(&'a str, Option<String>)];

impl Api {
    /// A client of the stack that the command line names.
    ///
    /// # Errors
    /// When there is no URL, no region to sign for, or CloudFormation does not know the stack.
    pub(crate) async fn of(connection: &Connection) -> Result<Self, Failure> {
        let place = connection.place()?;
        let (base, aws) = match place {
            Place::Url(url) if connection.token().is_some() => (url, None),
            Place::Url(url) => (url, Some(connection.aws().await)),
            Place::Stack(name) => {
                let aws = connection.aws().await;
                let stack = target::describe(&aws, name).await?;
                (target::api_url(&aws, name, &stack)?, Some(aws))
            }
        };
        let caller = match (connection.token(), aws) {
            (Some(token), _) => Caller::Token(token.to_owned()),
            (None, Some(aws)) => {
                let region = region_of(&base).or_else(|| aws.region().map(ToString::to_string));
                let none = || Failure::Usage("which region? Set AWS_REGION or use --region".to_owned());
                Caller::Signed { region: region.ok_or_else(none)?, aws: Box::new(aws) }
            }
            (None, None) => {
                return Err(Failure::Usage("set STEADHOOK_TOKEN, or configure credentials of AWS".to_owned()));
            }
        };
        Ok(Self { http: client(&base)?, base, caller })
    }

    /// The URL of a path, such as that of the console.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base.as_str().trim_end_matches('/'))
    }

    /// Gets a path.
    ///
    /// # Errors
    /// What the API says, or why it could not be asked.
    pub(crate) async fn get(&self, path: &str, query: Query<'_>) -> Result<Answer, Failure> {
        self.call(Method::GET, path, query, None).await
    }

    /// Posts JSON.
    ///
    /// # Errors
    /// What the API says, or why it could not be asked.
    pub(crate) async fn post(&self, path: &str, body: String) -> Result<Answer, Failure> {
        self.call(Method::POST, path, &[], Some(body)).await
    }

    /// Deletes.
    ///
    /// # Errors
    /// What the API says, or why it could not be asked.
    pub(crate) async fn delete(&self, path: &str) -> Result<Answer, Failure> {
        self.call(Method::DELETE, path, &[], None).await
    }

    /// The items of a list, by its name in the answers: `limit` of them at most.
    ///
    /// # Errors
    /// What the API says, or why it could not be asked.
    pub(crate) async fn list(
        &self,
        path: &str,
        query: Query<'_>,
        name: &str,
        limit: u32,
    ) -> Result<Vec<Box<RawValue>>, Failure> {
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let (mut items, mut cursor) = (Vec::new(), None);
        while items.len() < limit {
            let page = (limit - items.len()).min(PAGE);
            let query = [query, &[("limit", Some(page.to_string())), ("cursor", cursor)]].concat();
            let answer = self.get(path, &query).await?;
            let mut fields: std::collections::HashMap<String, Box<RawValue>> = answer.read()?;
            let found = fields.remove(name).ok_or_else(|| Failure::Refused(format!("the answer has no {name}")))?;
            items.extend(read::<Vec<Box<RawValue>>>(found.get())?);
            cursor = fields.get("next_cursor").map(|cursor| read(cursor.get())).transpose()?.flatten();
            if cursor.is_none() {
                break;
            }
        }
        Ok(items)
    }

    /// The path of an endpoint below that of its tenant. It is named by its id or by its uid.
    ///
    /// # Errors
    /// When no endpoint has this uid, or the API cannot be asked.
    pub(crate) async fn endpoint(&self, tenant: &str, name: &str) -> Result<String, Failure> {
        Ok(format!("{tenant}/endpoints/{}", segment(&self.endpoint_id(tenant, name).await?)))
    }

    /// The id of an endpoint that is named by its id or by its uid.
    ///
    /// # Errors
    /// When no endpoint has this uid, or the API cannot be asked.
    pub(crate) async fn endpoint_id(&self, tenant: &str, name: &str) -> Result<String, Failure> {
        #[derive(Deserialize)]
        struct Found {
            id: String,
        }
        if is_endpoint_id(name) {
            return Ok(name.to_owned());
        }
        let found =
            self.list(&format!("{tenant}/endpoints"), &[("uid", Some(name.to_owned()))], "endpoints", 1).await?;
        match found.first() {
            Some(found) => Ok(read::<Found>(found.get())?.id),
            None => Err(Failure::Refused(format!("no endpoint of this tenant has the uid {name:?}"))),
        }
    }

    /// Calls the API.
    ///
    /// # Errors
    /// What the API says, or why it could not be asked.
    pub(crate) async fn call(
        &self,
        method: Method,
        path: &str,
        query: Query<'_>,
        body: Option<String>,
    ) -> Result<Answer, Failure> {
        let answer = self.call_any(method, path, query, body).await?;
        if !answer.is_success() {
            return Err(answer.failure());
        }
        // Whoever else answers 200 has not done what was asked.
        if answer.status != 204 {
            answer.read::<serde::de::IgnoredAny>()?;
        }
        Ok(answer)
    }

    /// Calls the API. Errors that it tells are answers as well.
    ///
    /// # Errors
    /// Why it could not be asked.
    pub(crate) async fn call_any(
        &self,
        method: Method,
        path: &str,
        query: Query<'_>,
        body: Option<String>,
    ) -> Result<Answer, Failure> {
        // A URL resolves such segments, so that another route would be called.
        let segments = path.split('?').next().unwrap_or_default().split('/').skip(1);
        if segments.clone().any(|segment| matches!(segment, "" | "." | "..")) {
            return Err(Failure::Usage("an id cannot be empty, `.` or `..`".to_owned()));
        }
        let prefix = if matches!(self.caller, Caller::Token(_)) { "/api" } else { "" };
        let url = Url::parse(&self.url(&format!("{prefix}{path}")));
        let mut url = url.map_err(|error| Failure::Usage(format!("{path:?} is no path: {error}")))?;
        let asked = query.iter().filter_map(|(name, value)| Some((name, value.as_ref()?)));
        if asked.clone().next().is_some() {
            url.query_pairs_mut().extend_pairs(asked);
        }
        let body = Bytes::from(body.unwrap_or_default());
        let mut request =
            http::Request::builder().method(method).uri(url.as_str()).header("content-type", "application/json");
        if let Caller::Token(token) = &self.caller {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        let mut request =
            request.body(body).map_err(|error| Failure::Usage(format!("the request cannot be made: {error}")))?;
        if let Caller::Signed { aws, region } = &self.caller {
            sign_request(&mut request, aws, region).await?;
        }
        let request = reqwest::Request::try_from(request).map_err(|error| self.unreachable(&cause(&error)))?;
        let mut response = self.http.execute(request).await.map_err(|error| self.unreachable(&cause(&error)))?;
        let date = response.headers().get("date").and_then(|date| date.to_str().ok()).map(str::to_owned);
        let status = response.status().as_u16();
        let location = response.headers().get("location").and_then(|to| to.to_str().ok()).map(str::to_owned);
        let body = client::body(&mut response).await.map_err(|why| self.unreachable(&why))?;
        Ok(Answer { status, date, location, body: String::from_utf8_lossy(&body).into_owned() })
    }

    fn unreachable(&self, why: &str) -> Failure {
        Failure::Unreachable(format!("{} cannot be reached: {why}", self.base))
    }
}

/// The region that the host of a gateway's own URL names.
fn region_of(base: &Url) -> Option<String> {
    let (_, rest) = base.host_str()?.split_once(".execute-api.")?;
    let (region, _) = rest.split_once(".amazonaws.")?;
    Some(region.to_owned())
}

/// Signs a request as API Gateway wants it (AWS Signature Version 4).
async fn sign_request(
    request: &mut http::Request<Bytes>,
    aws: &aws_types::SdkConfig,
    region: &str,
) -> Result<(), Failure> {
    let none =
        "no credentials of AWS were found. Configure them (`aws configure`, `aws sso login`), or set STEADHOOK_TOKEN";
    let provider = aws.credentials_provider().ok_or_else(|| Failure::Usage(none.to_owned()))?;
    let credentials = provider.provide_credentials().await;
    let credentials = credentials.map_err(|error| {
        let why = error.source().map(|source| format!("\n  {source}")).unwrap_or_default();
        Failure::Usage(format!("{none}{why}"))
    })?;
    let identity = credentials.into();
    let unsigned = |error: &dyn std::fmt::Display| Failure::Usage(format!("the request cannot be signed: {error}"));
    let parameters = v4::SigningParams::builder()
        .identity(&identity)
        .region(region)
        .name(SERVICE)
        .time(SystemTime::UNIX_EPOCH + Duration::from_millis(crate::clock::now().0))
        .settings(SigningSettings::default())
        .build()
        .map_err(|error| unsigned(&error))?;
    let uri = request.uri().to_string();
    let headers = request.headers().iter().filter_map(|(name, value)| Some((name.as_str(), value.to_str().ok()?)));
    let signable = SignableRequest::new(request.method().as_str(), uri, headers, SignableBody::Bytes(request.body()))
        .map_err(|error| unsigned(&error))?;
    let (instructions, _) = sign(signable, &parameters.into()).map_err(|error| unsigned(&error))?.into_parts();
    instructions.apply_to_request_http1x(request);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_gateway_itself_names_its_region() {
        let region = |url: &str| region_of(&Url::parse(url).unwrap());
        assert_eq!(region("https://a1b2.execute-api.eu-west-1.amazonaws.com").as_deref(), Some("eu-west-1"));
        assert_eq!(region("https://a1b2.execute-api.cn-north-1.amazonaws.com.cn/").as_deref(), Some("cn-north-1"));
        assert_eq!(region("https://hooks.example.com"), None);
        assert_eq!(region("http://a1b2.execute-api.localhost:4566"), None);
    }

    #[test]
    fn an_id_stays_one_segment() {
        assert_eq!(segment("order-1.ep_x~_-"), "order-1.ep_x~_-");
        assert_eq!(segment("a/../b?c#d"), "a%2F..%2Fb%3Fc%23d");
    }
}

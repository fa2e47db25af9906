//! What every command is told about the stack: where it is and who calls.

use aws_config::{BehaviorVersion, Region};
use aws_types::SdkConfig;
use clap::Args;
use clap::parser::ValueSource;
use domain::token::Token;
use url::Url;

use crate::failure::Failure;

/// How to reach the stack. Its fields have names that no argument of a command has.
#[derive(Clone, Args)]
#[command(next_help_heading = "Connection")]
pub(crate) struct Connection {
    /// Base URL of the API
    #[arg(long = "url", global = true, env = "STEADHOOK_URL", hide_env_values = true, value_name = "URL")]
    api_url: Option<String>,
    /// Name of the CloudFormation stack, whose outputs tell the URL
    #[arg(long = "stack", global = true, env = "STEADHOOK_STACK_NAME", hide_env_values = true, value_name = "NAME")]
    stack_name: Option<String>,
    /// AWS region. Without it, the usual chain decides
    #[arg(long = "region", global = true, value_name = "REGION")]
    aws_region: Option<String>,
    /// Profile of the AWS configuration
    #[arg(long = "profile", global = true, value_name = "NAME")]
    aws_profile: Option<String>,
    /// A token instead of AWS credentials. Set STEADHOOK_TOKEN: arguments can be seen by other users.
    #[arg(long = "token", global = true, env = "STEADHOOK_TOKEN", hide = true, hide_env_values = true)]
    bearer: Option<String>,
}

/// Where the API is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place<'a> {
    /// At this URL.
    Url(Url),
    /// Where the outputs of this stack say.
    Stack(&'a str),
}

impl Connection {
    /// Lets the command line win over the environment: whoever names a stack does not mean the URL of another one.
    ///
    /// # Errors
    /// When the command line names both.
    pub(crate) fn settle(mut self, source: impl Fn(&str) -> Option<ValueSource>) -> Result<Self, Failure> {
        let typed = |name| source(name) == Some(ValueSource::CommandLine);
        match (typed("api_url"), typed("stack_name")) {
            (true, true) => return Err(Failure::Usage("give --url or --stack, not both".to_owned())),
            (true, false) => self.stack_name = None,
            (false, true) => self.api_url = None,
            (false, false) => {}
        }
        // A profile that was typed is meant for signing.
        if typed("aws_profile") && !typed("bearer") {
            self.bearer = None;
        }
        Ok(self)
    }

    /// Where the API is.
    ///
    /// # Errors
    /// When nothing says so.
    pub(crate) fn place(&self) -> Result<Place<'_>, Failure> {
        match (given(&self.api_url), self.stack()) {
            (Some(url), _) => match Url::parse(url) {
                Ok(url) if matches!(url.scheme(), "http" | "https") => Ok(Place::Url(url)),
                _ => Err(Failure::Usage(format!("{url:?} is no URL of an API: it begins with https:// or http://"))),
            },
            (None, Some(stack)) => Ok(Place::Stack(stack)),
            (None, None) => Err(Failure::Usage(
                "where is the API? Set STEADHOOK_URL, or name its stack with --stack. For the local stack: `. .local/stack.env`"
                    .to_owned(),
            )),
        }
    }

    /// The stack's name, if it is known.
    pub(crate) fn stack(&self) -> Option<&str> {
        given(&self.stack_name)
    }

    /// The token, if there is one.
    pub(crate) fn token(&self) -> Option<&str> {
        given(&self.bearer)
    }

    /// What the usual AWS chain says: region, credentials, endpoint.
    pub(crate) async fn aws(&self) -> SdkConfig {
        let mut loader = aws_config::defaults(BehaviorVersion::latest());
        if let Some(region) = &self.aws_region {
            loader = loader.region(Region::new(region.clone()));
        }
        if let Some(profile) = &self.aws_profile {
            loader = loader.profile_name(profile);
        }
        loader.load().await
    }
}

/// What was given, unless it is empty, as a variable is that somebody took back.
fn given(text: &Option<String>) -> Option<&str> {
    text.as_deref().map(str::trim).filter(|text| !text.is_empty())
}

/// The tenant whose token the caller has.
pub(crate) fn tenant_of_token(connection: &Connection) -> Option<String> {
    Token::unchecked(connection.token()?)?.scope.tenant().map(str::to_owned)
}

/// Whose things a command is about.
#[derive(Clone, Debug, Args)]
pub(crate) struct TenantArgument {
    /// The tenant. A tenant's token tells it
    #[arg(long, short, env = "STEADHOOK_TENANT", hide_env_values = true, value_name = "TENANT")]
    tenant: Option<String>,
}

impl TenantArgument {
    /// The tenant, or none if nothing names one.
    ///
    /// # Errors
    /// When it is no tenant's name.
    pub(crate) fn find(&self, connection: &Connection) -> Result<Option<String>, Failure> {
        let tenant = given(&self.tenant).map(str::to_owned).or_else(|| tenant_of_token(connection));
        match tenant {
            Some(tenant) if !domain::names::is_tenant_or_operator(&tenant) => {
                Err(Failure::Usage(format!("{tenant:?} is no name of a tenant")))
            }
            tenant => Ok(tenant),
        }
    }

    /// The tenant.
    ///
    /// # Errors
    /// When nothing names one.
    pub(crate) fn named(&self, connection: &Connection) -> Result<String, Failure> {
        self.find(connection)?
            .ok_or_else(|| Failure::Usage("which tenant? Name it with --tenant, or set STEADHOOK_TENANT".to_owned()))
    }

    /// The path of the tenant.
    ///
    /// # Errors
    /// When nothing names one.
    pub(crate) fn path(&self, connection: &Connection) -> Result<String, Failure> {
        Ok(format!("/tenants/{}", self.named(connection)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(url: Option<&str>, stack: Option<&str>) -> Connection {
        let api_url = url.map(str::to_owned);
        let stack_name = stack.map(str::to_owned);
        Connection { api_url, stack_name, aws_region: None, aws_profile: None, bearer: Some("sht_x".into()) }
    }

    fn from<'a>(typed: &'a [&str]) -> impl Fn(&str) -> Option<ValueSource> + 'a {
        |name| Some(if typed.contains(&name) { ValueSource::CommandLine } else { ValueSource::EnvVariable })
    }

    #[test]
    fn what_is_typed_wins_over_the_environment() {
        let both = || of(Some("https://a.example"), Some("s"));
        let url = Url::parse("https://a.example").unwrap();
        assert_eq!(both().settle(from(&[])).unwrap().place().unwrap(), Place::Url(url));
        assert_eq!(both().settle(from(&["stack_name"])).unwrap().place().unwrap(), Place::Stack("s"));
        assert_eq!(both().settle(from(&["api_url"])).unwrap().stack(), None);
        assert!(matches!(both().settle(from(&["api_url", "stack_name"])), Err(Failure::Usage(_))));
        assert!(matches!(of(None, None).place(), Err(Failure::Usage(_))));
        assert_eq!(both().settle(from(&[])).unwrap().token(), Some("sht_x"));
        assert_eq!(both().settle(from(&["aws_profile"])).unwrap().token(), None);
        assert_eq!(of(Some(" "), Some("s")).place().unwrap(), Place::Stack("s"), "an empty variable is none");
        assert!(matches!(of(Some("ftp://a"), Some("s")).place(), Err(Failure::Usage(_))));
    }
}

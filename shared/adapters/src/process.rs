//! What every function of the stack shares when it starts: environment, logs, clock,
//! meter and Redis.

use std::future::Future;
use std::io;
use std::sync::Arc;

use tokio::runtime::Builder;
use uuid::Uuid;

use crate::clock::Clock;
use crate::config;
use crate::config::reader::{ConfigError, Environment, Faulted, Reader};
use crate::metrics::meter::{Meter, Success};
use crate::metrics::sums::Metered;
use crate::redis::transport::{Redis, RedisConfig, RedisPort};
use crate::telemetry::{self, chain};
use crate::tls;

/// A delivery is some hundred short-lived pieces of memory. Handing them out is a
/// quarter of its cost with the system's allocator, and a tenth with this one.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Why a process does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Settings are missing or wrong.
    #[error("the configuration cannot be used")]
    Config(#[from] ConfigError),
    /// The Redis client cannot be made.
    #[error("the Redis client cannot be made")]
    Redis(#[from] redis::RedisError),
}

/// A process that has started.
pub struct Process<C> {
    /// The stack's name.
    pub stack: String,
    /// The function's own settings.
    pub config: C,
    /// The time.
    pub clock: Clock,
    meter: Meter,
    redis: Metered,
}

/// Runs a process to its end, on one thread. What it does is a task of the runtime: one that is woken
/// is polled next, and the future that a runtime blocks on only after another look for events,
/// which is a system call each time that an answer comes.
///
/// # Errors
/// When there is no runtime, or the process panicked.
pub fn run<T: Send + 'static>(work: impl Future<Output = T> + Send + 'static) -> io::Result<T> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    Ok(runtime.block_on(runtime.spawn(work))?)
}

/// Keeps a value as long as the process lives.
pub fn forever<T>(value: T) -> &'static T {
    Box::leak(Box::new(value))
}

/// Begins to log and gives the environment. Every process does this first.
pub fn begin() -> Environment {
    // Chance decides who holds a lease. A process that was thawed from a snapshot must
    // not draw what another one drew.
    let (high, low) = Uuid::new_v4().as_u64_pair();
    fastrand::seed(high ^ low);
    let environment = Environment::of_process();
    telemetry::init(environment.log_level());
    tls::prepare();
    environment
}

/// Begins a function that works alone, without Redis and without metrics of its own, and reads
/// its settings.
///
/// # Errors
/// Every fault of its settings. The log says them.
pub fn alone<C>(read: impl FnOnce(&mut Reader<'_>) -> Result<C, Faulted>) -> Result<C, ConfigError> {
    begin().read(read).inspect_err(|error| tracing::error!(error = %chain(error), "cannot start"))
}

/// Reads what every function needs, the stack's name and where Redis is, and what `read`
/// takes.
///
/// # Errors
/// Every fault at once.
pub fn settings<C>(
    environment: &Environment,
    read: impl FnOnce(&mut Reader<'_>) -> Result<C, Faulted>,
) -> Result<(String, RedisConfig, C), ConfigError> {
    environment.read(|reader| {
        let (stack, redis) = (config::stack(reader), config::redis(reader));
        Ok((stack, redis, read(reader)?))
    })
}

impl<C> Process<C> {
    /// Starts the function of this name with the settings that `read` takes.
    ///
    /// # Errors
    /// When it cannot work. The log says why.
    pub fn start(
        function: &'static str,
        read: impl FnOnce(&mut Reader<'_>) -> Result<C, Faulted>,
    ) -> Result<Self, StartError> {
        let started = Self::try_start(function, &begin(), read);
        started.inspect_err(|error| tracing::error!(error = %chain(error), "cannot start"))
    }

    fn try_start(
        function: &'static str,
        environment: &Environment,
        read: impl FnOnce(&mut Reader<'_>) -> Result<C, Faulted>,
    ) -> Result<Self, StartError> {
        let (stack, redis, config) = settings(environment, read)?;
        let clock = Clock::system();
        let meter = Meter::new(function, &stack, clock.clone()).of_version(environment.published_version()).installed();
        let redis = meter.wrap(Redis::open(&redis, clock.clone())?);
        Ok(Self { stack, config, clock, meter, redis })
    }

    /// The way to Redis.
    pub fn redis(&self) -> Arc<dyn RedisPort> {
        Arc::new(self.redis.clone())
    }

    /// Carries out one invocation, and lets out its metrics.
    pub async fn observe<T: Success>(&self, invocation: impl Future<Output = T>) -> T {
        self.meter.observe(&self.redis, invocation).await
    }
}

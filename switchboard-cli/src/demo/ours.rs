//! The demo's calls through the switchboard: everything of the demo that knows what a service is.

use std::time::{Duration, Instant};

use switchboard::{Outcome, Status, Switchboard};

use super::bare::Body;
use super::kill::{Fate, Told};
use super::stage::{Actor, DEMO_NAMESPACE, Stage};
use crate::data::{Example, Image};
use crate::digits::DigitsClient;
use crate::echo::EchoClient;
use crate::failure::{Explain, Result};
use crate::knn::Recognised;
use crate::report::Recovery;

/// How many calls of a demo service run at the same time.
pub const WORKERS: u16 = 2;

/// How many call without pause when the service is killed: some calls run, more wait.
const CALLERS: u32 = 8;

/// How long a worker is busy with each of these calls.
const BUSY_MS: u32 = 20;

/// How long both sides poll to stay awake from call to call. Short enough that the warm-up of whatever is measured next
/// outlasts it.
const AWAKE: Duration = Duration::from_micros(500);

/// How long calls may fail after the service was started again.
const PATIENCE: Duration = Duration::from_secs(3);

/// The service `digits`: its process and our client.
#[derive(Debug)]
pub struct Digits {
    actor: Actor,
    client: DigitsClient,
    // Holds the connection.
    _board: Switchboard,
}

impl Digits {
    /// Starts the process and connects to the service in it, by name.
    ///
    /// # Errors
    /// When either fails.
    pub fn start(stage: &Stage) -> Result<Self> {
        let actor = start_digits(stage)?;
        let board = open(stage, None)?;
        let client = DigitsClient::connect(&board, "digits").explain(|| "cannot connect to `digits`".into())?;
        Ok(Self { actor, client, _board: board })
    }

    /// The service's process.
    pub fn pid(&self) -> u32 {
        self.actor.pid
    }

    /// Calls the service for an image.
    ///
    /// # Errors
    /// What the call says.
    pub fn recognise(&self, image: &Image) -> Result<Recognised> {
        self.client.recognise(*image).explain(|| "a call to `digits` failed".into())
    }

    /// Callers for the kill: each keeps a worker busy with every call.
    pub fn callers(&self) -> Vec<impl FnMut() -> std::result::Result<(), Told> + Send + use<>> {
        let caller = |number: u32| {
            let client = self.client.clone();
            move || client.check_itself(number * 100, BUSY_MS).map(drop).map_err(told)
        };
        (0..CALLERS).map(caller).collect()
    }

    /// Kills the service amid a busy call. Gives the moment just before.
    ///
    /// # Errors
    /// When it has ended already.
    pub fn kill(&self, stage: &Stage) -> Result<Instant> {
        // A reply has just come, so workers have just begun: half a call later they are in the middle of one.
        std::thread::sleep(Duration::from_millis(u64::from(BUSY_MS) / 2));
        stage.kill(&self.actor)
    }

    /// Starts the service again and calls it through the same client until a call succeeds, then for every image;
    /// `None` if no call succeeds.
    ///
    /// # Errors
    /// When the process cannot be started, or a call fails after one has succeeded.
    pub fn restart(&mut self, stage: &Stage, tests: &[Example]) -> Result<Option<Recovery>> {
        let Some(first) = tests.first() else { return Ok(None) };
        self.actor = start_digits(stage)?;
        let ready = Instant::now();
        let mut tries = 1;
        while self.recognise(&first.image).is_err() {
            if ready.elapsed() > PATIENCE {
                return Ok(None);
            }
            tries += 1;
        }
        let took = ready.elapsed();
        let mut right = 0;
        for test in tests {
            right += usize::from(self.recognise(&test.image)?.digit == test.digit);
        }
        Ok(Some(Recovery { pid: self.actor.pid, tries, took, right }))
    }
}

/// The service `echo`: its process and our client.
#[derive(Debug)]
pub struct Echo {
    _actor: Actor,
    client: EchoClient,
    // Holds the connection.
    _board: Switchboard,
}

impl Echo {
    /// Starts an instance that, as its caller, stays awake between two calls.
    ///
    /// # Errors
    /// When it cannot be started or connected to.
    pub fn awake(stage: &Stage, cpu: Option<usize>) -> Result<Self> {
        Self::start(stage, cpu, "awake", AWAKE)
    }

    /// Starts an instance that, as its caller, sleeps whenever there is nothing to do.
    ///
    /// # Errors
    /// When it cannot be started or connected to.
    pub fn asleep(stage: &Stage, cpu: Option<usize>) -> Result<Self> {
        Self::start(stage, cpu, "asleep", Duration::ZERO)
    }

    fn start(stage: &Stage, cpu: Option<usize>, instance: &str, spin: Duration) -> Result<Self> {
        let spin_us = spin.as_micros().to_string();
        let mut args = serve("echo", 1);
        args.extend(["--instance".into(), instance.into(), "--spin-us".into(), spin_us]);
        if let Some(cpu) = cpu {
            args.extend(["--cpu".into(), cpu.to_string()]);
        }
        let actor = stage.start(&args)?;
        let board = open(stage, Some(spin))?;
        let address = format!("echo@{instance}");
        let client = EchoClient::connect(&board, &address).explain(|| format!("cannot connect to `{address}`"))?;
        Ok(Self { _actor: actor, client, _board: board })
    }

    /// Sends 64 bytes and gets them back.
    ///
    /// # Errors
    /// What the call says.
    pub fn echo(&self, body: Body) -> Result<Body> {
        self.client.echo(body).explain(|| "a call to `echo` failed".into())
    }
}

fn start_digits(stage: &Stage) -> Result<Actor> {
    stage.start(&serve("digits", WORKERS))
}

fn serve(service: &str, workers: u16) -> Vec<String> {
    ["serve", service, "--workers", &workers.to_string(), "--until-stdin-closes"].map(String::from).into()
}

fn open(stage: &Stage, spin: Option<Duration>) -> Result<Switchboard> {
    let what = || "cannot open the switchboard".into();
    let builder = Switchboard::builder().runtime_dir(stage.runtime_dir()).namespace(DEMO_NAMESPACE).explain(what)?;
    let builder = spin.into_iter().fold(builder, |builder, spin| builder.spin(spin));
    builder.open().explain(what)
}

fn told(status: Status) -> Told {
    let fate = match status.outcome() {
        Outcome::NotRun => Fate::NotRun,
        Outcome::MayHaveRun => Fate::MayHaveRun,
        Outcome::Ran => Fate::Ran,
    };
    Told { fate, code: status.code().to_string(), message: status.message().into() }
}

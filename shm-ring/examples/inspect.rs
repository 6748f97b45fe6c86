//! What the rings of running processes are doing, read from outside.
//!
//! ```text
//! cargo run -p shm-ring --example inspect                    a demonstration, under 2 s
//! cargo run -p shm-ring --example inspect -- 4711            all segments of a process
//! cargo run -p shm-ring --example inspect -- team/jobs       a queue and its lanes
//! cargo run -p shm-ring --example inspect -- /dev/shm/board  a segment under a name or in a file
//! ```

use std::env;
use std::error::Error;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use shm_ring::inspect::{self, Onlooker, QueueReport};
use shm_ring::mpsc::{QueueAddress, QueueOptions};
use shm_ring::{ClaimError, Place, RecvError};

type Outcome = Result<(), Box<dyn Error>>;

fn main() -> Outcome {
    let arguments: Vec<_> = env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        [] => demonstrate(),
        ["busy-queue", directory] => be_busy(Path::new(directory)),
        [what] => show(what),
        _ => Err("usage: inspect [PID | QUEUE | PATH]".into()),
    }
}

fn show(what: &str) -> Outcome {
    if let Ok(pid) = what.parse() {
        let survey = inspect::process(pid)?;
        for found in &survey.found {
            println!("{}", found.look()?);
        }
        for refused in &survey.refused {
            println!("refused pid={} name={:?} error={:?}", refused.pid, refused.name, refused.error.to_string());
        }
    } else if Path::new(what).is_absolute() {
        println!("{}", Onlooker::at(&Place::file(what)?)?.look()?);
    } else {
        println!("{}", inspect::queue(what)?);
    }
    Ok(())
}

/// Two looks at a queue in another process, and what happened between them.
fn demonstrate() -> Outcome {
    let directory = env::temp_dir().join(format!("inspect-example-{}", std::process::id()));
    let mut child = Command::new(env::current_exe()?)
        .arg("busy-queue")
        .arg(&directory)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let ready = child.stdout.take().ok_or("the child has an output")?;
    BufReader::new(ready).read_line(&mut String::new())?;
    let shown = compare(&directory);
    // The child ends with its input.
    drop(child.stdin.take());
    child.wait()?;
    std::fs::remove_dir_all(&directory)?;
    shown
}

fn compare(directory: &Path) -> Outcome {
    let options = QueueOptions::new().runtime_dir(directory);
    let look = || Ok::<_, shm_ring::Error>((Instant::now(), options.inspect(&address()?)?));
    let (began, first) = look()?;
    std::thread::sleep(Duration::from_millis(200));
    let (ended, second) = look()?;
    println!("{first}\n{second}");
    let seconds = (ended - began).as_secs_f64();
    let rate = |count: fn(&QueueReport) -> u64| (count(&second) - count(&first)) as f64 / seconds;
    println!("rate received={:.0}/s full={:.0}/s", rate(QueueReport::received), rate(QueueReport::full));
    Ok(())
}

fn address() -> Result<QueueAddress, shm_ring::Error> {
    "example/jobs".parse()
}

/// A queue with a producer that sends all the time, until the input ends.
fn be_busy(directory: &Path) -> Outcome {
    let options = QueueOptions::new().runtime_dir(directory);
    let mut queue = options.create(&address()?)?;
    let sender = options.open(&address()?)?;
    std::thread::spawn(move || while sender.send(b"a piece of work").is_ok() {});
    println!("ready");
    std::thread::spawn(|| {
        // Either way the input is over.
        let _ = std::io::stdin().read_line(&mut String::new());
        std::process::exit(0);
    });
    loop {
        match queue.recv() {
            Ok(frame) => drop(frame),
            Err(RecvError::Closed) => return Err(ClaimError::Closed.into()),
            Err(error) => return Err(error.into()),
        }
    }
}

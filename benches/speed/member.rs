//! A process that works in a store through a library: ours is this benchmark run once more, the peer's is
//! `tests/peer/tools/storage-member`, which answers to the same lines.

use std::io::{self, BufRead, BufReader, Lines, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use strata::store::driver::MountOptions;
use strata::store::{Config, NewContainer, Store};

/// The first argument of ours.
pub const ROLE: &str = "member";

/// What it is told to do, again and again.
#[derive(Clone, Copy, Debug)]
pub enum Work {
    /// Create, mount, unmount and delete a container.
    Cycles,
    /// Create and delete one.
    Pairs,
}

impl Work {
    fn name(self) -> &'static str {
        match self {
            Self::Cycles => "cycles",
            Self::Pairs => "pairs",
        }
    }
}

/// One that runs, with its store open.
#[derive(Debug)]
pub struct Member {
    child: Child,
    orders: Option<ChildStdin>,
    answers: Lines<BufReader<ChildStdout>>,
}

impl Member {
    /// Starts `program`, which says when it is ready.
    pub fn start(program: &mut Command) -> Self {
        let mut child = program
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let orders = child.stdin.take();
        let answers = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut member = Self {
            child,
            orders,
            answers,
        };
        assert_eq!(member.answer(), "ready");
        member
    }

    /// Ours, on the store below `folder`. Durable is what the command line creates.
    pub fn ours(folder: &Path, image: &str, is_durable: bool) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command
            .arg(ROLE)
            .args([folder.join("graph"), folder.join("run")])
            .args([image, if is_durable { "durable" } else { "" }]);
        Self::start(&mut command)
    }

    /// The newest peer's, with options of its driver.
    pub fn theirs(program: &Path, folder: &Path, image: &str, options: &[&str]) -> Self {
        let mut command = Command::new(program);
        command
            .args([folder.join("graph"), folder.join("run")])
            .arg(image)
            .args(options);
        Self::start(&mut command)
    }

    fn answer(&mut self) -> String {
        self.answers
            .next()
            .expect("a member answers, or says what went wrong")
            .unwrap()
    }

    /// Tells it what to do, without waiting for it.
    pub fn tell(&mut self, work: Work, count: usize) {
        let orders = self.orders.as_mut().unwrap();
        writeln!(orders, "{} {count}", work.name()).unwrap();
    }

    /// Waits until it has done what it was told. Returns how long that took it.
    pub fn wait(&mut self) -> Duration {
        Duration::from_nanos(self.answer().parse().unwrap())
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        drop(self.orders.take());
        let left = self.child.wait();
        assert!(
            std::thread::panicking() || left.unwrap().success(),
            "a member failed"
        );
    }
}

/// Works as a member until standard input ends.
pub fn run(arguments: &[String]) {
    let [graph, run, image, durable] = arguments else {
        panic!("{ROLE} GRAPH RUN IMAGE durable|\"\"");
    };
    let store = Store::open(Config {
        driver: Some("overlay".into()),
        ..Config::in_roots(graph, run)
    })
    .unwrap();
    println!("ready");
    for line in io::stdin().lines() {
        let line = line.unwrap();
        let (kind, count) = line.split_once(' ').unwrap();
        let start = Instant::now();
        for _ in 0..count.parse().unwrap() {
            let new = NewContainer {
                image: Some(image.clone()),
                is_durable: durable == "durable",
                ..NewContainer::default()
            };
            let id = &store.create_container(new).unwrap().id;
            if kind == "cycles" {
                store.mount(id, &MountOptions::default()).unwrap();
                store.unmount(id, false).unwrap();
            }
            store.delete_container(id).unwrap();
        }
        println!("{}", start.elapsed().as_nanos());
    }
}

//! Volumes over the ends of boots: in order, by a reset in mid-use, and by resets in the middle of publishing and of
//! pulling. A store on each file system goes through them at the same time.
//!
//! | Boot | Begins with | Ends by |
//! |---|---|---|
//! | 1 | new disks | SIGPWR to the plugin, which saves inline volumes; a reboot in order |
//! | 2 | what the kubelet does after a reboot | SIGTERM to the plugin, which saves none; a reboot in order |
//! | 3 | the same | a reset while volumes are in use |
//! | 4 ... | the same; then a round of work | a reset at a random moment of it |
//! | the last | the same | its end |

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Sender, channel};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::chance::Chance;
use super::disk::Kind;
use super::images;
use super::node::{Fate, Node};
use super::power;
use super::report;
use super::whole;

/// The boots before the rounds.
const BEFORE: u32 = 3;

/// How a boot ends.
pub enum End {
    /// The whole is over.
    Over { passed: bool },
    /// A reboot in order.
    Reboot,
}

/// One boot of the life: `SEED ROUNDS`.
pub fn run(arguments: &[String]) -> End {
    let [seed, rounds] = arguments else {
        panic!("life SEED ROUNDS");
    };
    let seed: u64 = seed.parse().expect("a number as seed");
    let rounds: u32 = rounds.parse().expect("a number of rounds");
    let boot = power::boot();
    let registry = images::registry();
    if boot == 1 {
        images::make(&registry, rounds);
        Kind::ALL.into_iter().for_each(Kind::make);
    }
    let mut nodes: Vec<Node> = Kind::ALL.into_iter().map(Node::on).collect();
    let passed = match boot {
        1 => on_each(&mut nodes, "volumes are made and written", begin),
        2 => on_each(
            &mut nodes,
            "after a reboot that was announced, all volumes go on",
            |node| use_again(node, Fate::Kept),
        ),
        3 => on_each(
            &mut nodes,
            "after a reboot in order, claims' volumes go on and inline ones start anew",
            |node| use_again(node, Fate::Anew),
        ),
        _ => {
            let before = boot - BEFORE - 1;
            let name = match before {
                0 => "after a reset in mid-use, the store is whole".to_owned(),
                round => format!("after a power cut in {}, the store is whole", work(round)),
            };
            on_each(&mut nodes, &name, after_a_cut)
        }
    };
    if !passed {
        return End::Over { passed };
    }
    match boot {
        1 => {
            nodes.iter_mut().for_each(|node| node.stop(Signal::POWER));
            End::Reboot
        }
        2 => {
            nodes.iter_mut().for_each(|node| node.stop(Signal::TERM));
            End::Reboot
        }
        3 => power::cut(),
        _ if boot - BEFORE <= rounds => {
            let round = boot - BEFORE;
            let chance = Chance::new(seed.wrapping_mul(1000).wrapping_add(round.into()));
            cut_in_the_middle(nodes, round, chance)
        }
        _ => End::Over { passed: true },
    }
}

/// What a round does when the power goes.
fn work(round: u32) -> &'static str {
    if round.is_multiple_of(2) {
        "mid-pull"
    } else {
        "mid-publish"
    }
}

/// Does the same on all nodes at once; one result each.
pub fn on_each(nodes: &mut [Node], name: &str, step: impl Fn(&mut Node) + Sync) -> bool {
    std::thread::scope(|scope| {
        let running: Vec<_> = nodes
            .iter_mut()
            .map(|node| {
                let kind = node.kind.name();
                let step = &step;
                let thread = scope.spawn(move || {
                    let start = Instant::now();
                    let done = catch_unwind(AssertUnwindSafe(|| step(node))).is_ok();
                    (done, start.elapsed())
                });
                (kind, thread)
            })
            .collect();
        running.into_iter().fold(true, |all, (kind, thread)| {
            let (done, took) = thread.join().expect("panics are caught");
            let name = format!("{name} ({kind}, {:.1} s)", took.as_secs_f64());
            report::add(&name, u32::from(done), u32::from(!done));
            all && done
        })
    })
}

/// The claim that stays.
pub const KEPT: &str = "kept";

/// A claim's volume and two inline ones, written to.
fn begin(node: &mut Node) {
    node.start();
    let claim = node.create_claim(KEPT);
    node.write_claim(&claim, "the first boot's\n");
    node.write_inline("inline", Some(images::SITE));
    node.write_inline("scratch", None);
    whole::assert_records(node);
}

/// The kubelet after a reboot asks for each volume again, at the same target. A claim's has what was synced; the log
/// tells what inline ones have.
fn find_again(node: &mut Node, fate: Fate) {
    whole::assert_records(node);
    node.start();
    for claim in node.ledger.claims.clone() {
        if !claim.is_going {
            node.read_claim(&claim);
        }
    }
    for inline in node.ledger.inline.clone() {
        node.find_inline(&inline, fate);
    }
}

/// In use once more, for the next end.
fn use_again(node: &mut Node, fate: Fate) {
    find_again(node, fate);
    let claim = node.ledger.claim(KEPT).clone();
    node.write_claim(&claim, &format!("boot {}\n", power::boot()));
    for inline in node.ledger.inline.clone() {
        node.write_inline(&inline.name, inline.image.as_deref());
    }
}

/// What was asked for before the cut succeeds now; then everything is taken away but one claim, and nothing else is
/// left. The newest peer agrees.
pub fn after_a_cut(node: &mut Node) {
    find_again(node, Fate::Torn);
    for name in node.ledger.wanted.clone() {
        let claim = node.create_claim(&name);
        node.read_claim(&claim);
    }
    for pull in node.ledger.pulls.clone() {
        node.repeat(&pull);
    }
    let ended = node.ledger.ended.iter();
    for inline in node.ledger.inline.iter().chain(ended) {
        node.unpublish(&node.inline(inline));
    }
    node.ledger.note(|ledger| {
        ledger.inline.clear();
        ledger.ended.clear();
    });
    for claim in node.ledger.claims.clone() {
        if claim.name == KEPT {
            node.unpublish(&node.wish_of(&claim));
        } else {
            node.delete_claim(&claim);
        }
    }
    node.stop(Signal::TERM);
    whole::assert_nothing_too_much(node);
    whole::assert_checked_by_the_peer(&node.settings);
}

/// Starts a round of work on each node, and cuts the power at a random moment of it.
fn cut_in_the_middle(nodes: Vec<Node>, round: u32, mut chance: Chance) -> ! {
    let (send, receive) = channel();
    let count = nodes.len();
    for mut node in nodes {
        let send = send.clone();
        std::thread::spawn(move || {
            let kind = node.kind.name();
            let working = catch_unwind(AssertUnwindSafe(|| {
                node.start();
                match work(round) {
                    "mid-pull" => pull(&mut node, round, &send),
                    _ => publish(&mut node, round, &send),
                }
            }));
            if working.is_err() {
                report::add(&format!("the work of round {round} ({kind})"), 0, 1);
                send.send(None).ok();
            }
        });
    }
    let mut longest = Duration::ZERO;
    for _ in 0..count {
        match receive.recv() {
            Ok(Some(took)) => longest = longest.max(took),
            _ => std::process::exit(1),
        }
    }
    let moment = chance.within(longest * 3 / 2);
    // Nothing comes until then, unless the work has failed.
    if receive.recv_timeout(moment).is_ok() {
        std::process::exit(1);
    }
    println!(
        "vm: round {round}: the power is cut {:.3} s into {}, of which one takes {:.3} s",
        moment.as_secs_f64(),
        work(round),
        longest.as_secs_f64()
    );
    power::cut()
}

/// Creates, publishes, writes and deletes until the end; tells how long it takes once.
fn publish(node: &mut Node, round: u32, began: &Sender<Option<Duration>>) {
    for number in 0.. {
        let start = Instant::now();
        let name = |number: u32| format!("claim-{round}-{number}");
        let claim = node.create_claim(&name(number));
        node.write_claim(&claim, &format!("{number} of round {round}\n"));
        let pod = |number: u32| format!("pod-{round}-{number}");
        node.write_inline(&pod(number), (number % 2 == 0).then_some(images::SITE));
        if number % 2 == 1 {
            let claim = node.ledger.claim(&name(number - 1)).clone();
            node.delete_claim(&claim);
            node.end_inline(&pod(number - 1));
        }
        let kept = node.ledger.claim(KEPT).clone();
        node.write_claim(&kept, &format!("kept in {number} of round {round}\n"));
        if number == 0 {
            began.send(Some(start.elapsed())).ok();
        }
    }
}

/// Pulls two images at once, one through the plugin and one by the command; tells how long it takes, and pulls two
/// others.
fn pull(node: &mut Node, round: u32, began: &Sender<Option<Duration>>) {
    for number in [round - 2, round - 1] {
        let start = Instant::now();
        let command = node.spawn_pull(number);
        node.write_inline(&format!("large-{number}"), Some(&images::large(number)));
        node.acknowledge_pull(command, number);
        if number == round - 2 {
            began.send(Some(start.elapsed())).ok();
        }
    }
    loop {
        std::thread::park();
    }
}

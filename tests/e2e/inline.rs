//! Volumes in a pod's own description.

use super::events::{assert_calm, assert_nothing_pulled, assert_told};
use super::images::{page, site};
use super::leftovers::wait_for_volumes;
use super::pod::Pod;
use super::stage::play;

#[test]
fn a_volume_has_the_image_and_can_be_written() {
    play(|| {
        let pod = Pod::new("writer").image("site", &site("inline")).run();
        assert_calm(&pod);
        assert_told(&pod.object(), "VolumeImagePulled", &["inline"]);
        assert_eq!(pod.shell("cat /site/index.html"), page("inline"));
        assert_eq!(pod.shell("wc -l < /site/data/numbers"), "2000");
        pod.shell("echo more >> /site/index.html && rm /site/data/numbers && mkdir -p /site/new && echo x > /site/new/file");
        assert_eq!(
            pod.shell("tail -1 /site/index.html; ls /site/data | wc -l; cat /site/new/file"),
            "more\n0\nx"
        );
        pod.delete();
        wait_for_volumes(0);
        // What was written went with the pod.
        let again = Pod::new("writer").image("site", &site("inline")).run();
        assert_eq!(
            again.shell("cat /site/index.html; ls /site"),
            format!("{}\ndata\nindex.html", page("inline"))
        );
    });
}

#[test]
fn a_read_only_volume_refuses_writes() {
    play(|| {
        let pod = Pod::new("reader")
            .image("site", &site("read-only"))
            .read_only()
            .run();
        assert_calm(&pod);
        assert_told(&pod.object(), "VolumeImagePulled", &["read-only"]);
        assert_eq!(pod.shell("cat /site/index.html"), page("read-only"));
        let ran = pod.try_shell("echo x > /site/new");
        assert!(
            ran.code != 0 && ran.stderr.contains("Read-only file system"),
            "{ran}"
        );
        let ran = pod.try_shell("rm /site/index.html");
        assert!(
            ran.code != 0 && ran.stderr.contains("Read-only file system"),
            "{ran}"
        );
    });
}

#[test]
fn a_scratch_volume_is_empty_and_can_be_written() {
    play(|| {
        let pod = Pod::new("scratch").inline("work", &[]).run();
        assert_calm(&pod);
        assert_told(&pod.object(), "Started", &["Container started"]);
        assert_nothing_pulled(&pod);
        assert_eq!(pod.shell("ls -A /work | wc -l"), "0");
        assert_eq!(
            pod.shell("echo kept > /work/file && sync && cat /work/file"),
            "kept"
        );
        assert!(
            pod.shell("grep ' /work ' /proc/mounts")
                .contains("nosuid,nodev")
        );
    });
}

#[test]
fn two_pods_on_one_image_do_not_see_each_other() {
    play(|| {
        let image = site("shared");
        let one = Pod::new("one").image("site", &image).create();
        let two = Pod::new("two")
            .image("site", &image)
            .image("other", &image)
            .run();
        one.wait_until_ready();
        for pod in [&one, &two] {
            assert_calm(pod);
            assert_told(&pod.object(), "Started", &["Container started"]);
        }
        one.shell("echo one > /site/index.html; echo one > /site/mine");
        two.shell("echo two > /site/index.html; echo other > /other/mine");
        assert_eq!(one.shell("cat /site/index.html /site/mine"), "one\none");
        assert_eq!(
            two.shell("cat /site/index.html /other/index.html; ls /site /other | grep -c mine"),
            format!("two\n{}\n1", page("shared"))
        );
        wait_for_volumes(3);
        one.delete();
        wait_for_volumes(2);
        assert_eq!(two.shell("cat /other/mine"), "other");
    });
}

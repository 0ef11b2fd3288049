// Works in a store with the newest containers/storage library, as it is told on standard input:
//
//	storage-member GRAPH RUN IMAGE [STORAGE-OPTION...]
//
// It says "ready" when the store is open. Each line "cycles N" makes, mounts, unmounts and deletes N containers of the
// image, one after another; "pairs N" only makes and deletes them. The answer is how many nanoseconds that took.
package main

import (
	"bufio"
	"fmt"
	"os"
	"time"

	"go.podman.io/storage"
	"go.podman.io/storage/pkg/reexec"
)

func work(store storage.Store, image, kind string, count int) error {
	for range count {
		container, err := store.CreateContainer("", nil, image, "", "", nil)
		if err != nil {
			return err
		}
		if kind == "cycles" {
			if _, err := store.Mount(container.ID, ""); err != nil {
				return err
			}
			if _, err := store.Unmount(container.ID, false); err != nil {
				return err
			}
		}
		if err := store.DeleteContainer(container.ID); err != nil {
			return err
		}
	}
	return nil
}

func run() error {
	if len(os.Args) < 4 {
		return fmt.Errorf("usage: %s GRAPH RUN IMAGE [STORAGE-OPTION...]", os.Args[0])
	}
	store, err := storage.GetStore(storage.StoreOptions{
		GraphRoot:          os.Args[1],
		RunRoot:            os.Args[2],
		GraphDriverName:    "overlay",
		GraphDriverOptions: os.Args[4:],
	})
	if err != nil {
		return err
	}
	fmt.Println("ready")
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		var kind string
		var count int
		if _, err := fmt.Sscan(lines.Text(), &kind, &count); err != nil {
			return err
		}
		start := time.Now()
		if err := work(store, os.Args[3], kind, count); err != nil {
			return err
		}
		fmt.Println(time.Since(start).Nanoseconds())
	}
	return lines.Err()
}

func main() {
	if reexec.Init() {
		return
	}
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

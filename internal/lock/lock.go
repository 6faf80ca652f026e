// Package lock gives an output, a folder or a file, one writer at a time.
//
// The lock is the system's own, on a file beside what is written, and ends with
// its process however that ends: a file that was left behind locks nothing. The
// file says who holds the lock, and is removed with it.
package lock

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/seed-436d2970/pixpro/internal/event"
)

// FolderName is the name of the lock's file in a folder that is written.
const FolderName = ".pixpro.lock"

// poll is the time between two attempts of one that waits.
const poll = 200 * time.Millisecond

// signing is the time that a holder is given to write who it is, before its
// refusal of another one does without.
const signing = 800 * time.Millisecond

// Holder is who holds a lock, as its file says.
type Holder struct {
	Host    string    `json:"host"`
	PID     int       `json:"pid"`
	Started time.Time `json:"started"`
	Command string    `json:"command"`
}

func (h Holder) String() string {
	if h.PID == 0 {
		return "another process"
	}
	return fmt.Sprintf("process %d on %s since %s (%s)", h.PID, h.Host, h.Started.Local().Format(time.DateTime), h.Command)
}

// HeldError is the error of an output that somebody else writes.
type HeldError struct {
	Output string
	Holder Holder // of PID 0 if its file does not say
}

func (e *HeldError) Error() string {
	return fmt.Sprintf("%s is being written by %v: let it end (train, shard and export take --wait 5m for that), stop it, or choose another output", e.Output, e.Holder)
}

// Waiting says that an output's present writer is waited for.
type Waiting struct {
	Held *HeldError
	Wait time.Duration // at most
}

func (e Waiting) String() string {
	return fmt.Sprintf("%s is being written by %v: waiting for up to %v", e.Held.Output, e.Held.Holder, e.Wait)
}

// Unlocked says that an output's file system has no locks, so that nothing
// keeps a second writer away.
type Unlocked struct {
	Output string
	Err    error
}

func (e Unlocked) String() string {
	return fmt.Sprintf("the file system of %s has no locks (%v): see to it that nothing else writes there", e.Output, e.Err)
}

// Lock is held until Release, or to the end of the process.
type Lock struct {
	file   *os.File
	folder string // that was made for the lock, or ""
}

// Folder locks a folder, which mkdir makes if need be. If another process has the
// lock, it waits for up to wait, which l is told of, and fails with a
// *HeldError.
func Folder(ctx context.Context, dir string, mkdir func(dir string) error, wait time.Duration, l event.Listener) (*Lock, error) {
	for attempt := 0; ; attempt++ {
		_, err := os.Stat(dir)
		made := errors.Is(err, fs.ErrNotExist)
		if err := mkdir(dir); err != nil {
			return nil, err
		}
		k, err := acquire(ctx, dir, filepath.Join(dir, FolderName), wait, l)
		if errors.Is(err, fs.ErrNotExist) && attempt < 10 {
			continue // a holder that made the folder took it away with its lock
		}
		if err != nil {
			return nil, err
		}
		if made {
			k.folder = dir
		}
		return k, nil
	}
}

// File locks a file, which need not be there, like Folder.
func File(ctx context.Context, path string, wait time.Duration, l event.Listener) (*Lock, error) {
	return acquire(ctx, path, filepath.Join(filepath.Dir(path), "."+filepath.Base(path)+".lock"), wait, l)
}

func acquire(ctx context.Context, output, path string, wait time.Duration, l event.Listener) (*Lock, error) {
	begun := time.Now()
	told := false
	for {
		f, err := try(path, lockFile)
		switch {
		case err == nil:
			return &Lock{file: f}, nil
		case errors.Is(err, errors.ErrUnsupported):
			l.Tell(Unlocked{output, err})
			return &Lock{}, nil
		case !errors.Is(err, errHeld):
			return nil, fmt.Errorf("lock %s: %w", output, err)
		}
		pause := poll
		switch held := (&HeldError{output, holder(path)}); {
		case held.Holder.PID == 0 && time.Since(begun) < signing:
			// The holder is about to sign, or has just let go.
			pause = signing / 100
		case time.Since(begun) >= wait:
			return nil, held
		case !told:
			told = true
			l.Tell(Waiting{held, wait})
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(pause):
		}
	}
}

// errHeld is the error of lockFile where another process has the lock.
var errHeld = errors.New("locked")

// try locks the file at path. A holder removes its file, so that what was opened
// and then locked may be a file that is gone: nobody else would see such a lock.
func try(path string, lock func(*os.File) error) (*os.File, error) {
	for {
		f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o666)
		if err != nil {
			return nil, err
		}
		if err := lock(f); err != nil {
			return nil, errors.Join(err, f.Close())
		}
		opened, err := f.Stat()
		if err == nil {
			var there os.FileInfo
			there, err = os.Stat(path)
			if err == nil && os.SameFile(opened, there) {
				sign(f)
				return f, nil
			}
		}
		f.Close()
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
	}
}

// sign writes into a lock's file who holds it. The lock holds without, on a full
// disk for instance.
func sign(f *os.File) {
	host, _ := os.Hostname()
	command := append([]string{filepath.Base(os.Args[0])}, os.Args[1:]...)
	text, err := json.Marshal(Holder{host, os.Getpid(), time.Now().Truncate(time.Second), strings.Join(command, " ")})
	if err == nil && f.Truncate(0) == nil {
		_, _ = f.WriteAt(append(text, '\n'), 0)
	}
}

// holder reads who holds the lock whose file is at path, and returns a Holder of
// PID 0 if the file is gone or does not say.
func holder(path string) (h Holder) {
	const most = 1 << 20
	info, err := os.Stat(path)
	if err != nil || info.Size() > most {
		return Holder{}
	}
	text, err := os.ReadFile(path)
	if err != nil || json.Unmarshal(text, &h) != nil {
		return Holder{}
	}
	return h
}

// Release removes the lock's file, and the folder if it was made for the lock
// and nothing else came into it. A nil lock is held by nobody.
func (k *Lock) Release() error {
	if k == nil || k.file == nil {
		return nil
	}
	err := release(k.file)
	k.file = nil
	if k.folder != "" {
		_ = os.Remove(k.folder) // fails if there is something in it
	}
	return err
}

package lock

import (
	"bufio"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/seed-436d2970/pixpro/internal/event"
)

// holdFolder, in the environment, makes the test's program lock that folder, say
// so, and wait for its standard input to end.
const holdFolder = "PIXPRO_TEST_HOLD_FOLDER"

func TestMain(m *testing.M) {
	dir := os.Getenv(holdFolder)
	if dir == "" {
		os.Exit(m.Run())
	}
	k, err := Folder(context.Background(), dir, mkdir, 0, nil)
	if err != nil {
		os.Stdout.WriteString(err.Error() + "\n")
		os.Exit(1)
	}
	os.Stdout.WriteString("held\n")
	bufio.NewReader(os.Stdin).ReadString('\n')
	if err := k.Release(); err != nil {
		os.Exit(2)
	}
	os.Exit(0)
}

// hold has another process hold a folder's lock. It ends when end is called.
func hold(t *testing.T, dir string) (holder *exec.Cmd, end func()) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), holdFolder+"="+dir)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "held\n" {
		t.Fatalf("the holder says %q (%v)", line, err)
	}
	return cmd, sync.OnceFunc(func() {
		in.Close()
		if err := cmd.Wait(); err != nil {
			t.Error(err)
		}
	})
}

func TestSecondProcessIsRefused(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "run")
	holder, end := hold(t, dir)
	_, err := Folder(t.Context(), dir, mkdir, 0, nil)
	var held *HeldError
	if !errors.As(err, &held) || held.Holder.PID != holder.Process.Pid {
		t.Fatalf("a second process gets %v, want the first one's number %d", err, holder.Process.Pid)
	}
	host, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	if h := held.Holder; h.Host != host || time.Since(h.Started) > time.Hour || !strings.Contains(h.Command, filepath.Base(os.Args[0])) {
		t.Errorf("the holder is %+v", h)
	}
	end()
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a folder that was made for the lock alone is still there: %v", err)
	}
	k, err := Folder(t.Context(), dir, mkdir, 0, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "output"), nil, 0o666); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(k.Release(), k.Release()); err != nil {
		t.Error(err)
	}
	if names, err := os.ReadDir(dir); err != nil || len(names) != 1 {
		t.Errorf("left in the folder: %v (%v)", names, err)
	}
}

// TestKilledHolder kills the process that has the lock: the file stays and locks
// nothing.
func TestKilledHolder(t *testing.T) {
	dir := t.TempDir()
	holder, _ := hold(t, dir)
	if err := holder.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	holder.Wait() // killed
	if _, err := os.Stat(filepath.Join(dir, FolderName)); err != nil {
		t.Fatal(err)
	}
	k, err := Folder(t.Context(), dir, mkdir, 0, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := k.Release(); err != nil {
		t.Error(err)
	}
}

// TestWait waits for a holder, which ends once it is waited for.
func TestWait(t *testing.T) {
	dir := t.TempDir()
	_, end := hold(t, dir)
	told := 0
	k, err := Folder(t.Context(), dir, mkdir, time.Hour, func(e event.Event) {
		if _, ok := e.(Waiting); !ok {
			t.Errorf("told of %v", e)
		}
		told++
		end()
	})
	if err != nil || told != 1 {
		t.Fatalf("after %d events: %v", told, err)
	}
	defer k.Release()

	var held *HeldError
	if _, err := Folder(t.Context(), dir, mkdir, 2*poll, nil); !errors.As(err, &held) {
		t.Errorf("after the wait: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Folder(ctx, dir, mkdir, time.Hour, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled while it waits: %v", err)
	}
}

// TestWaitForAFolderThatGoes waits for a holder that made the folder and takes it
// away with its lock.
func TestWaitForAFolderThatGoes(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "run")
	_, end := hold(t, dir)
	k, err := Folder(t.Context(), dir, mkdir, time.Hour, func(event.Event) { end() })
	if err != nil {
		t.Fatal(err)
	}
	if err := k.Release(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the folder is still there: %v", err)
	}
}

func TestFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "backbone.pth")
	k, err := File(t.Context(), path, 0, nil)
	if err != nil {
		t.Fatal(err)
	}
	var held *HeldError
	if _, err := File(t.Context(), path, 0, nil); !errors.As(err, &held) || held.Output != path {
		t.Errorf("a second writer gets %v", err)
	}
	other, err := File(t.Context(), path+"2", 0, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(k.Release(), other.Release()); err != nil {
		t.Error(err)
	}
}

// TestOneAtATime has many that take the lock, change a number, and let go, each
// of which removes the file that others have just opened.
func TestOneAtATime(t *testing.T) {
	for name, method := range methods {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "lock")
			number := path + ".number"
			const each, goroutines = 30, 8
			one := func() {
				for {
					f, err := try(path, method)
					if errors.Is(err, errHeld) {
						continue
					}
					if err != nil {
						t.Error(err)
						return
					}
					text, _ := os.ReadFile(number) // none before the first
					n, _ := strconv.Atoi(string(text))
					if err := errors.Join(os.WriteFile(number, strconv.AppendInt(nil, int64(n+1), 10), 0o666), release(f)); err != nil {
						t.Error(err)
					}
					return
				}
			}
			var wg sync.WaitGroup
			for range goroutines {
				wg.Go(func() {
					for range each {
						one()
					}
				})
			}
			wg.Wait()
			if text, err := os.ReadFile(number); err != nil || string(text) != strconv.Itoa(each*goroutines) {
				t.Errorf("counted %q (%v), want %d", text, err, each*goroutines)
			}
		})
	}
}

// TestHolderThatSignsLate is refused for a holder that has written who it is only
// a while after it took the lock, and for one that never does.
func TestHolderThatSignsLate(t *testing.T) {
	for _, late := range []bool{true, false} {
		dir := t.TempDir()
		f, err := try(filepath.Join(dir, FolderName), lockFile)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(f.Name(), []byte("{"), 0o666); err != nil {
			t.Fatal(err)
		}
		begun := time.Now()
		if late {
			time.AfterFunc(signing/8, func() { sign(f) })
		}
		_, err = Folder(t.Context(), dir, mkdir, 0, nil)
		var held *HeldError
		switch {
		case !errors.As(err, &held):
			t.Errorf("signed late %v: %v", late, err)
		case late && held.Holder.PID != os.Getpid(), !late && !strings.Contains(err.Error(), "another process"):
			t.Errorf("signed late %v: %v", late, err)
		}
		if took := time.Since(begun); !late && took < signing {
			t.Errorf("refused after %v", took)
		}
		if err := release(f); err != nil {
			t.Fatal(err)
		}
	}
}

func mkdir(dir string) error { return os.MkdirAll(dir, 0o777) }

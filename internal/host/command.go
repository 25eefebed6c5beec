package host

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/lingyun-cloud/lingyun/internal/hostlink"
)

// commandTimeout ends a child that has no nearer deadline.
const commandTimeout = 8 * time.Second

// run executes a program with an argument list (never a shell) and answers its
// output; its last words go into the error.
func run(ctx context.Context, program string, args ...string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, commandTimeout)
	defer cancel()
	return runWith(ctx, nil, program, args...)
}

// runWith is run as long as the context lasts. The child reads input, when there is any, from descriptor 3: what must
// be in no argument list, environment or file.
func runWith(ctx context.Context, input []byte, program string, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, program, args...)
	if input != nil {
		r, err := pipeOf(input)
		if err != nil {
			return nil, err
		}
		defer r.Close()
		cmd.ExtraFiles = []*os.File{r}
	}
	cmd.Dir = "/"
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C"}
	// A killed agent takes its children with it: the next one begins their work again, on the same files. The signal is
	// sent when the thread ends that began the child, so that one stays.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = time.Second
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err == nil {
		return out, nil
	}
	if ctx.Err() != nil {
		return nil, fmt.Errorf("%w: %s took too long", hostlink.ErrUnavailable, filepath.Base(program))
	}
	text := strings.TrimSpace(stderr.String())
	if len(text) > 500 {
		text = text[len(text)-500:]
	}
	if strings.Contains(text, "No space left on device") {
		return nil, fmt.Errorf("%w: %s", hostlink.ErrNoSpace, text)
	}
	if errors.Is(err, exec.ErrNotFound) {
		return nil, fmt.Errorf("host: %s is not installed", filepath.Base(program))
	}
	return nil, fmt.Errorf("host: %s: %w: %s", filepath.Base(program), err, text)
}

// pipeOf is the end of a pipe that holds a passphrase, which is less than a pipe's buffer.
func pipeOf(secret []byte) (*os.File, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("host: %w", err)
	}
	_, err = w.Write(secret)
	if err := errors.Join(err, w.Close()); err != nil {
		r.Close()
		return nil, fmt.Errorf("host: %w", err)
	}
	return r, nil
}

// confined executes a program on data that a tenant may have made: 1 GiB of memory, 5 s of processor,
// no files written.
func confined(ctx context.Context, program string, args ...string) ([]byte, error) {
	return run(ctx, "prlimit", append([]string{"--as=1073741824", "--cpu=5", "--fsize=0", "--core=0", "--", program}, args...)...)
}

// spaceError makes ErrNoSpace of a full disk.
func spaceError(err error) error {
	if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) {
		return fmt.Errorf("%w: %w", hostlink.ErrNoSpace, err)
	}
	return fmt.Errorf("host: %w", err)
}

package sqlite

import (
	"bufio"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/certbound/certbound/authserver"
)

// crashEnv names the folder in which the test binary, run again as a child, writes
// until it is killed.
const crashEnv = "CERTBOUND_TEST_SQLITE_CRASH"

func TestMain(m *testing.M) {
	if dir := os.Getenv(crashEnv); dir != "" {
		if err := writeUntilKilled(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
		os.Exit(3)
	}
	os.Exit(m.Run())
}

// writeUntilKilled writes with several goroutines and prints a line for each write
// that was acknowledged. A line is one write to the pipe, so it arrives whole.
func writeUntilKilled(dir string) error {
	ctx := context.Background()
	s, err := Open(ctx, Config{Path: filepath.Join(dir, "certbound.db"), Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return err
	}
	run := os.Getpid()
	fail := make(chan error)
	for worker := range 8 {
		go func() {
			for i := 0; ; i++ {
				name := fmt.Sprintf("%d-%d-%d", run, worker, i)
				if err := writeOne(s, i%5, name); err != nil {
					fail <- err
					return
				}
				fmt.Fprintf(os.Stdout, "%d %s\n", i%5, name)
			}
		}()
	}
	return <-fail
}

var far = time.Date(2100, 1, 1, 0, 0, 0, 0, time.UTC)

func writeOne(s *Store, kind int, name string) error {
	ctx := context.Background()
	switch kind {
	case 0:
		return s.CreateClient(ctx, &authserver.Client{ID: name, Scope: name})
	case 1:
		return s.SaveToken(ctx, &authserver.OpaqueToken{Hash: sha256.Sum256([]byte(name)), JTI: name, Expires: far})
	case 2:
		return s.Revoke(ctx, name, far)
	case 3:
		first, err := s.UseOnce(ctx, name, far)
		if err == nil && !first {
			err = errors.New("a new key was used before")
		}
		return err
	default:
		return s.SaveCertificate(ctx, authserver.CertificateRecord{Thumbprint: name, Serial: name, TokensUntil: far})
	}
}

func readOne(s *Store, kind string, name string) error {
	ctx := context.Background()
	switch kind {
	case "0":
		c, err := s.Client(ctx, name)
		if err == nil && c.Scope != name {
			err = errors.New("the client is not the one that was written")
		}
		return err
	case "1":
		_, err := s.Token(ctx, sha256.Sum256([]byte(name)))
		return err
	case "2":
		is, err := s.Revoked(ctx, name)
		if err == nil && !is {
			err = errors.New("the revocation is gone")
		}
		return err
	case "3":
		first, err := s.UseOnce(ctx, name, far)
		if err == nil && first {
			err = errors.New("a used key can be used again")
		}
		return err
	case "4":
		_, err := s.Certificate(ctx, name)
		return err
	}
	return errors.New("unknown line")
}

// A server is killed (kill -9) at a random moment while it writes; then it is started
// again on the same file, and killed again. Nothing it had acknowledged is missing, and
// a key that was used stays used.
func TestKilledWhileWriting(t *testing.T) {
	dir := t.TempDir()
	var acknowledged []string
	for round := range 5 {
		child := exec.CommandContext(t.Context(), os.Args[0])
		child.Env = append(os.Environ(), crashEnv+"="+dir)
		var stderr strings.Builder
		child.Stderr = &stderr
		stdout, err := child.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := child.Start(); err != nil {
			t.Fatal(err)
		}
		before := len(acknowledged)
		lines := bufio.NewScanner(stdout)
		var kill sync.Once
		for lines.Scan() {
			acknowledged = append(acknowledged, lines.Text())
			// The clock starts with the first write, so that a slow machine kills
			// within writing, too.
			kill.Do(func() {
				time.AfterFunc(time.Duration(rand.IntN(150))*time.Millisecond, func() { child.Process.Kill() })
			})
		}
		if err := child.Wait(); err == nil || stderr.Len() > 0 {
			t.Fatalf("round %d: the child ended by itself: %v\n%s", round, err, stderr.String())
		}
		if len(acknowledged) == before {
			t.Fatalf("round %d: nothing was acknowledged", round)
		}

		s := open(t, dir)
		for _, line := range acknowledged {
			kind, name, _ := strings.Cut(line, " ")
			if err := readOne(s, kind, name); err != nil {
				t.Errorf("round %d: acknowledged %q: %v", round, line, err)
			}
		}
		var check string
		if err := s.reader.QueryRow("PRAGMA integrity_check").Scan(&check); err != nil || check != "ok" {
			t.Errorf("round %d: integrity check: %s, error %v", round, check, err)
		}
		if err := s.Close(); err != nil {
			t.Errorf("round %d: Close: %v", round, err)
		}
	}
	t.Logf("%d acknowledged writes survived five kills", len(acknowledged))
}

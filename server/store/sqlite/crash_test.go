package sqlite

import (
	"bufio"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
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
	if dir := os.Getenv(raceEnv); dir != "" {
		if err := redeemAll(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(3)
		}
		os.Exit(0)
	}
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
				if err := writeOne(s, i%kinds, name); err != nil {
					fail <- err
					return
				}
				fmt.Fprintf(os.Stdout, "%d %s\n", i%kinds, name)
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
	case 4:
		return s.SaveCertificate(ctx, authserver.CertificateRecord{Thumbprint: name, Serial: name, TokensUntil: far})
	case 5:
		return authorizeOne(s, name)
	case 6:
		return errors.Join(authorizeOne(s, name), redeemOne(s, name, name+" refresh"))
	case 7:
		return errors.Join(authorizeOne(s, name), redeemOne(s, name, name+" refresh"), refreshOne(s, name, name+" second"))
	default:
		return errors.Join(authorizeOne(s, name), redeemOne(s, name, name+" refresh"), s.RevokeGrant(ctx, name, begun))
	}
}

// kinds is how many kinds of writes there are.
const kinds = 9

// begun is when everything happens in these tests.
var begun = time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)

func sum(name string) [32]byte { return sha256.Sum256([]byte(name)) }

// authorizeOne begins a grant with that id, whose code has that value.
func authorizeOne(s *Store, name string) error {
	ctx := context.Background()
	r := &authserver.AuthorizationRequest{Hash: sum(name), ClientID: name, Created: begun, Expires: far}
	if err := s.SaveRequest(ctx, r); err != nil {
		return err
	}
	return s.Authorize(ctx, r, &authserver.Grant{ID: name, ClientID: name, Subject: "alice", Created: begun, Expires: far},
		&authserver.Code{Hash: sum(name), GrantID: name, ClientID: name, Expires: far},
		&authserver.Consent{Subject: "alice", ClientID: name})
}

func issuedTo(grant, refresh string) authserver.Issued {
	return authserver.Issued{JTI: refresh + " access", Expires: far, Refresh: &authserver.RefreshToken{
		Hash: sum(refresh), GrantID: grant, ClientID: grant, X5TS256: "thumbprint", Issued: begun, Expires: far,
	}}
}

func redeemOne(s *Store, name, refresh string) error {
	return s.RedeemCode(context.Background(), sum(name), begun, issuedTo(name, refresh))
}

func refreshOne(s *Store, name, successor string) error {
	return s.Refresh(context.Background(), sum(name+" refresh"), begun, -1, time.Time{}, issuedTo(name, successor))
}

// readGrant reports what is missing of a grant that was acknowledged, and what is
// accepted a second time.
func readGrant(s *Store, kind, name string) error {
	ctx := context.Background()
	if _, err := s.Request(ctx, sum(name)); !errors.Is(err, authserver.ErrNotFound) {
		return fmt.Errorf("the request that was answered: %w", err)
	}
	code, grant, err := s.Code(ctx, sum(name))
	if err != nil {
		return err
	}
	if _, err := s.Consent(ctx, "alice", name); err != nil {
		return err
	}
	if kind == "5" {
		if !code.Used.IsZero() || !grant.Revoked.IsZero() {
			return errors.New("the code was used, or its grant revoked")
		}
		return nil
	}
	if err := redeemOne(s, name, name+" again"); !errors.Is(err, authserver.ErrUsed) {
		return fmt.Errorf("a used code: %w", err)
	}
	if _, _, err := s.RefreshToken(ctx, sum(name+" refresh")); err != nil {
		return err
	}
	switch kind {
	case "7":
		if _, _, err := s.RefreshToken(ctx, sum(name+" second")); err != nil {
			return err
		}
		// The first look revokes the family, and the later ones find that.
		if err := refreshOne(s, name, name+" third"); !errors.Is(err, authserver.ErrUsed) && !errors.Is(err, authserver.ErrGrantRevoked) {
			return fmt.Errorf("a used refresh token: %w", err)
		}
		fallthrough
	case "8":
		if is, err := s.Revoked(ctx, name+" refresh access"); err != nil || !is {
			return fmt.Errorf("the access token of a revoked grant is revoked: %t, error %w", is, err)
		}
		if err := refreshOne(s, name, name+" fourth"); !errors.Is(err, authserver.ErrGrantRevoked) {
			return fmt.Errorf("a refresh token of a revoked grant: %w", err)
		}
	}
	return nil
}

// halves counts what only half a transaction can have left.
const halves = `SELECT
	(SELECT count(*) FROM requests JOIN grants USING (client_id)) +
	(SELECT count(*) FROM grants WHERE id NOT IN (SELECT grant_id FROM codes)) +
	(SELECT count(*) FROM codes WHERE grant_id NOT IN (SELECT id FROM grants)) +
	(SELECT count(*) FROM grants WHERE client_id NOT IN (SELECT client_id FROM consents)) +
	(SELECT count(*) FROM codes WHERE used IS NOT NULL AND grant_id NOT IN (SELECT grant_id FROM refresh_tokens)) +
	(SELECT count(*) FROM codes WHERE used IS NULL AND grant_id IN (SELECT grant_id FROM grant_tokens)) +
	(SELECT count(*) FROM grants JOIN grant_tokens ON grant_id = id WHERE revoked IS NOT NULL AND jti NOT IN (SELECT jti FROM revocations)) +
	(SELECT count(*) FROM revocations WHERE number > (SELECT last FROM revocation_changes))`

// raceEnv names the folder in which the test binary, run again as a child, redeems codes
// that another process redeems at the same time.
const raceEnv = "CERTBOUND_TEST_SQLITE_RACE"

const contested = 40

// redeemAll redeems the code and uses the refresh token of each number that it reads, and
// says of both whether they were accepted.
func redeemAll(dir string) error {
	s, err := Open(context.Background(), Config{Path: filepath.Join(dir, "certbound.db"), BusyTimeout: time.Minute, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return err
	}
	defer s.Close()
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		mine := fmt.Sprint(" of ", os.Getpid())
		code, refresh := "code "+lines.Text(), "grant "+lines.Text()
		redeemed := make(chan error)
		go func() { redeemed <- redeemOne(s, code, code+mine) }()
		refreshed := refreshOne(s, refresh, refresh+mine)
		first := <-redeemed
		if first != nil && !errors.Is(first, authserver.ErrUsed) {
			return first
		}
		if refreshed != nil && !errors.Is(refreshed, authserver.ErrUsed) && !errors.Is(refreshed, authserver.ErrGrantRevoked) {
			return refreshed
		}
		fmt.Println(first == nil, refreshed == nil)
	}
	return lines.Err()
}

// A code that was stolen is redeemed by thief and owner at once, at two processes on one
// database; so is a refresh token. One of them gets tokens, and of the family whose
// refresh token came twice nothing is valid any more.
func TestCodeReuseFromTwoProcesses(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	defer s.Close()
	for i := range contested {
		code, refresh := fmt.Sprint("code ", i), fmt.Sprint("grant ", i)
		if err := errors.Join(authorizeOne(s, code), authorizeOne(s, refresh), redeemOne(s, refresh, refresh+" refresh")); err != nil {
			t.Fatal(err)
		}
	}
	type process struct {
		cmd    *exec.Cmd
		stdin  io.WriteCloser
		lines  *bufio.Scanner
		stderr *strings.Builder
	}
	processes := make([]process, 2)
	for i := range processes {
		p := process{cmd: exec.CommandContext(t.Context(), os.Args[0]), stderr: new(strings.Builder)}
		p.cmd.Env, p.cmd.Stderr = append(os.Environ(), raceEnv+"="+dir), p.stderr
		stdout, err := p.cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if p.stdin, err = p.cmd.StdinPipe(); err != nil {
			t.Fatal(err)
		}
		if err := p.cmd.Start(); err != nil {
			t.Fatal(err)
		}
		p.lines = bufio.NewScanner(stdout)
		processes[i] = p
	}
	accepted := make(map[string]int)
	var won [2]int
	for i := range contested {
		for _, p := range processes {
			if _, err := fmt.Fprintln(p.stdin, i); err != nil {
				t.Fatalf("%v\n%s", err, p.stderr)
			}
		}
		for n, p := range processes {
			if !p.lines.Scan() {
				t.Fatalf("process %d says nothing: %v\n%s", n, p.lines.Err(), p.stderr)
			}
			code, refresh, _ := strings.Cut(p.lines.Text(), " ")
			if code == "true" {
				accepted[fmt.Sprint("code ", i)]++
				won[n]++
			}
			if refresh == "true" {
				accepted[fmt.Sprint("grant ", i)]++
				won[n]++
			}
		}
	}
	for n, p := range processes {
		p.stdin.Close()
		if err := p.cmd.Wait(); err != nil {
			t.Fatalf("process %d: %v\n%s", n, err, p.stderr)
		}
	}
	t.Logf("the processes won %d and %d", won[0], won[1])
	for i := range contested {
		code, refresh := fmt.Sprint("code ", i), fmt.Sprint("grant ", i)
		if accepted[code] != 1 || accepted[refresh] != 1 {
			t.Errorf("%s was accepted %d times and the refresh token of %s %d times, want each once", code, accepted[code], refresh, accepted[refresh])
		}
		if g, err := s.Grant(t.Context(), refresh); err != nil || g.Revoked.IsZero() {
			t.Errorf("the refresh token of %s came twice, and the grant is %+v, error %v", refresh, g, err)
		}
		if is, err := s.Revoked(t.Context(), refresh+" refresh access"); err != nil || !is {
			t.Errorf("the access token of %s is revoked: %t, error %v", refresh, is, err)
		}
	}
	var n int
	if err := s.reader.QueryRow(halves).Scan(&n); err != nil || n != 0 {
		t.Errorf("%d halves of transactions, error %v", n, err)
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
	case "5", "6", "7", "8":
		return readGrant(s, kind, name)
	}
	return errors.New("unknown line")
}

// A server is killed (kill -9) at a random moment while it writes; then it is started
// again on the same file, and killed again. Nothing it had acknowledged is missing, no
// transaction is there by half, and what was used once, such as a code or a refresh token,
// is not accepted again.
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
		var half int
		if err := s.reader.QueryRow(halves).Scan(&half); err != nil || half != 0 {
			t.Errorf("round %d: %d halves of transactions, error %v", round, half, err)
		}
		if err := s.Close(); err != nil {
			t.Errorf("round %d: Close: %v", round, err)
		}
	}
	t.Logf("%d acknowledged writes survived five kills", len(acknowledged))
}

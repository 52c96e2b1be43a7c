package listen

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// maxPairFile bounds the file of a certificate or of a key.
const maxPairFile = 1 << 20

// ErrName reports a handshake for a name that the server's certificate does not have.
var ErrName = errors.New("listen: the certificate is not valid for the server name that the client asks for")

// A PairError is a server certificate that cannot be used.
type PairError struct {
	Certificate, Key string // the files
	Err              error
}

func (e *PairError) Error() string {
	return "listen: server certificate " + e.Certificate + " with key " + e.Key + ": " + e.Err.Error()
}

func (e *PairError) Unwrap() error { return e.Err }

// A Pair is a server certificate with its key. If it comes from files, it follows their
// changes while Run runs: new handshakes get the new certificate, and connections that
// are there stay. It is safe for concurrent use, also by several listeners.
type Pair struct {
	certFile, keyFile string
	log               *slog.Logger
	now               func() time.Time
	current           atomic.Pointer[tls.Certificate]
	generation        atomic.Uint64

	mu sync.Mutex
	// Digests of the contents that are in use, that were reported as broken, and that
	// were broken at the last look and not before.
	used, reported, suspect [sha256.Size]byte
	err                     error
}

// NewPair returns a pair that does not change. cert.Leaf must be set, as by
// [tls.X509KeyPair].
func NewPair(cert tls.Certificate) *Pair {
	p := &Pair{log: slog.Default(), now: time.Now}
	p.current.Store(&cert)
	return p
}

// LoadPair reads a certificate with its intermediates and its key from PEM files, which
// may be one. The error is of type *[PairError]. If logger is nil, slog.Default.
func LoadPair(certFile, keyFile string, logger *slog.Logger) (*Pair, error) {
	if logger == nil {
		logger = slog.Default()
	}
	p := &Pair{certFile: certFile, keyFile: keyFile, log: logger, now: time.Now}
	cert, sum, err := p.read()
	if err != nil {
		return nil, err
	}
	p.use(cert, sum)
	return p, nil
}

// Certificate returns the certificate in use. The caller must not change it.
func (p *Pair) Certificate() *tls.Certificate { return p.current.Load() }

// Generation grows with each pair that was taken on from the files.
func (p *Pair) Generation() uint64 { return p.generation.Load() }

// NotAfter returns the end of the certificate in use.
func (p *Pair) NotAfter() time.Time { return p.current.Load().Leaf.NotAfter }

// Err returns why the files on disk are not in use, or nil.
func (p *Pair) Err() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.err
}

// pollPairs is how often the files are read. They are small, and reading them finds
// every way in which a file changes: in place, by renaming, by a symbolic link.
const pollPairs = 2 * time.Second

// Run follows the files until ctx ends.
func (p *Pair) Run(ctx context.Context) {
	if p.certFile == "" {
		return
	}
	tick := time.NewTicker(pollPairs)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			p.look(false)
		}
	}
}

// Reload reads the files now, and returns why they are not in use, if so. The old
// certificate then stays.
func (p *Pair) Reload() error {
	if p.certFile == "" {
		return nil
	}
	return p.look(true)
}

// look reads the files. Of a state that is broken it is told only at the second look,
// unless at once: whoever replaces two files does it one after the other.
func (p *Pair) look(atOnce bool) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	cert, sum, err := p.read()
	switch {
	case err == nil && sum == p.used:
		if p.err != nil {
			p.log.Info("listen: the server certificate files are back as they were", "file", p.certFile)
		}
		p.err, p.suspect, p.reported = nil, [sha256.Size]byte{}, [sha256.Size]byte{}
		return nil
	case err == nil:
		p.use(cert, sum)
		p.log.Info("listen: new server certificate", "file", p.certFile,
			"subject", cert.Leaf.Subject.String(), "not_after", cert.Leaf.NotAfter)
		return nil
	case !atOnce && sum != p.suspect:
		p.suspect = sum
		return p.err
	}
	p.err = err
	if sum != p.reported {
		p.reported = sum
		p.log.Error("listen: the new server certificate cannot be used; the old one stays in use",
			"error", err, "old_not_after", p.current.Load().Leaf.NotAfter)
	}
	return err
}

func (p *Pair) use(cert *tls.Certificate, sum [sha256.Size]byte) {
	p.current.Store(cert)
	p.generation.Add(1)
	p.used, p.err = sum, nil
	p.suspect, p.reported = [sha256.Size]byte{}, [sha256.Size]byte{}
	now := p.now()
	switch leaf := cert.Leaf; {
	case now.After(leaf.NotAfter):
		p.log.Error("listen: the server certificate has expired; clients will refuse it", "file", p.certFile, "not_after", leaf.NotAfter)
	case now.Before(leaf.NotBefore):
		p.log.Error("listen: the server certificate is not valid yet; clients will refuse it", "file", p.certFile, "not_before", leaf.NotBefore)
	case leaf.NotAfter.Sub(now) < 7*24*time.Hour && leaf.NotAfter.Sub(leaf.NotBefore) > 30*24*time.Hour:
		p.log.Warn("listen: the server certificate expires within a week", "file", p.certFile, "not_after", leaf.NotAfter)
	}
}

// read returns the pair on disk, and the digest of what was read, or of the error.
func (p *Pair) read() (*tls.Certificate, [sha256.Size]byte, error) {
	fail := func(content []byte, err error) (*tls.Certificate, [sha256.Size]byte, error) {
		return nil, sha256.Sum256(append(content, err.Error()...)), &PairError{p.certFile, p.keyFile, err}
	}
	certPEM, err := readFile(p.certFile)
	if err != nil {
		return fail(nil, err)
	}
	keyPEM, err := readFile(p.keyFile)
	if err != nil {
		return fail(certPEM, err)
	}
	content := bytes.Join([][]byte{certPEM, keyPEM}, []byte{0})
	cert, err := tls.X509KeyPair(certPEM, keyPEM)
	if err != nil {
		return fail(content, err)
	}
	return &cert, sha256.Sum256(content), nil
}

func readFile(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxPairFile+1))
	if err == nil && len(b) > maxPairFile {
		err = fmt.Errorf("%s: expected at most %d bytes", name, maxPairFile)
	}
	return b, err
}

// forHello returns the certificate for a handshake. A client that sends no name gets
// it, too; RequireAuthority lets it ask for address literals only.
func (p *Pair) forHello(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	cert := p.current.Load()
	if hello.ServerName != "" && cert.Leaf.VerifyHostname(hello.ServerName) != nil {
		return nil, ErrName
	}
	return cert, nil
}

package revocation

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
)

// A source is where a list comes from: a file or a URL. The Checker's lock guards it.
type source struct {
	name  string
	url   bool
	named bool // by a certificate
	whose []byte
	inDir string // the folder that the file was found in

	current *List
	issuer  *x509.Certificate // whose key has verified current
	pending *List             // read, and no known issuer has signed it
	spool   string            // the file of pending

	etag, modified      string // of what is in use
	fetched, next       time.Time
	retry               time.Time // not before then, after a failure
	tried               bool
	err, storeErr       error
	successes, failures uint64
	stat                fileStat
}

type fileStat struct {
	size int64
	at   time.Time
}

// concerns reports whether the source may have a list for cert.
func (s *source) concerns(cert, issuer *x509.Certificate) bool {
	switch {
	case s.named:
		return bytes.Equal(s.whose, issuer.RawSubject) && slices.Contains(cert.CRLDistributionPoints, s.name)
	case s.current != nil:
		return bytes.Equal(s.current.issuer, issuer.RawSubject)
	}
	return true
}

// A SourceError is a list that was read and is not used.
type SourceError struct {
	Source string
	Fault  string
	Err    error
}

func (e *SourceError) Error() string {
	text := "revocation: " + e.Source + ": " + e.Fault
	if e.Err != nil {
		text += ": " + e.Err.Error()
	}
	return text
}

func (e *SourceError) Unwrap() error { return e.Err }

// accept puts a list into use if it may replace the one in use. A list that no known
// issuer has signed waits. The caller holds the lock.
func (c *Checker) accept(s *source, l *List) error {
	now := c.cfg.Now()
	refuse := func(fault string, err error) error { return &SourceError{s.name, fault, err} }
	if l.thisUpdate.After(now.Add(c.cfg.Skew)) {
		return refuse("the list is from the future: it was made at "+l.thisUpdate.Format(time.RFC3339), nil)
	}
	var known []*x509.Certificate
	if s.issuer != nil {
		known = append(known, s.issuer)
	}
	if c.cfg.Issuers != nil {
		known = append(known, c.cfg.Issuers()...)
	}
	var fault error
	for _, issuer := range known {
		if !bytes.Equal(issuer.RawSubject, l.issuer) {
			continue
		}
		if fault = l.Verify(issuer); fault == nil {
			return c.replace(s, l, issuer)
		}
	}
	if s.current != nil && !now.After(s.current.nextUpdate) {
		// Whoever can answer in the place of the source must not end the use of
		// the list that is there.
		if fault == nil {
			fault = errors.New("its issuer is not the one of the list in use")
		}
		return refuse("the list is not used, the one before it stays", fault)
	}
	c.wait(s, l)
	if fault != nil {
		return refuse("no known issuer has signed the list", fault)
	}
	return nil
}

// wait keeps a list until its issuer is seen in a path.
func (c *Checker) wait(s *source, l *List) {
	if s.spool != "" {
		os.Remove(s.spool)
		s.spool = ""
	}
	s.pending = l
}

// replace puts a list that issuer has signed into use, unless that would go back in
// time. The caller holds the lock.
func (c *Checker) replace(s *source, l *List, issuer *x509.Certificate) error {
	if old := s.current; old != nil {
		same := bytes.Equal(old.issuer, l.issuer) && bytes.Equal(old.scope.raw, l.scope.raw) && old.Delta() == l.Delta()
		fresh := !c.cfg.Now().After(old.nextUpdate)
		switch {
		case !same && s.url && fresh:
			return &SourceError{s.name, "the list is for other certificates than the one in use, which stays", nil}
		case same && (l.compare(old) < 0 || l.thisUpdate.Before(old.thisUpdate)):
			return &SourceError{s.name, fmt.Sprintf("the list is older than the one in use: number %v of %s, and in use is %v of %s",
				l.number, l.thisUpdate.Format(time.RFC3339), old.number, old.thisUpdate.Format(time.RFC3339)), nil}
		case same && l.compare(old) == 0 && bytes.Equal(l.signature, old.signature):
			return nil // the very same
		}
	}
	l.message = nil // verified
	s.current, s.issuer, s.pending = l, issuer, nil
	c.rebuild()
	c.cfg.Logger.Info("revocation list in use", "set", c.cfg.Set, "source", s.name, "entries", l.Len(),
		"this_update", l.thisUpdate, "next_update", l.nextUpdate, "delta", l.Delta())
	return nil
}

// adopt puts lists into use that waited for this issuer, which stands in a valid path.
func (c *Checker) adopt(issuer *x509.Certificate) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.adoptLocked(issuer)
}

func (c *Checker) adoptLocked(issuer *x509.Certificate) {
	for _, s := range c.sources {
		if s.pending == nil || !bytes.Equal(s.pending.issuer, issuer.RawSubject) {
			continue
		}
		if err := s.pending.Verify(issuer); err != nil {
			s.err = &SourceError{s.name, "the list is not used", err}
			if s.tried && s.retry.IsZero() {
				s.retry = c.cfg.Now().Add(c.cfg.Retry)
			}
			continue
		}
		spool := s.spool
		if s.err = c.replace(s, s.pending, issuer); s.err != nil {
			continue
		}
		s.spool = ""
		c.keep(s, spool)
	}
}

// fetchMissing fetches each source that may have a list for cert and has none that is
// valid, if it did not fail a moment ago, and waits for it.
func (c *Checker) fetchMissing(ctx context.Context, cert, issuer *x509.Certificate) {
	now := c.cfg.Now()
	c.mu.Lock()
	c.adoptLocked(issuer) // a fetch may have ended since the last look
	if c.cfg.ListsFromCertificates {
		c.addNamed(cert, issuer)
	}
	due := make(map[*source]uint64)
	for _, s := range c.sources {
		missing := s.current == nil && (s.pending == nil || bytes.Equal(s.pending.issuer, issuer.RawSubject)) ||
			s.current != nil && now.After(s.current.nextUpdate)
		if missing && s.concerns(cert, issuer) && !now.Before(s.retry) {
			due[s] = s.attempts()
		}
	}
	c.mu.Unlock()
	var wait sync.WaitGroup
	for s, attempts := range due {
		wait.Go(func() { c.fetches.Do(ctx, s.name, c.cfg.Timeout, c.work(s, attempts)) })
	}
	wait.Wait()
}

// attempts counts the fetches that have ended.
func (s *source) attempts() uint64 { return s.successes + s.failures }

// addNamed adds the distribution points of a certificate with a valid path. The caller
// holds the lock.
func (c *Checker) addNamed(cert, issuer *x509.Certificate) {
	const perCertificate = 4
	n := 0
	for _, s := range c.sources {
		if s.named {
			n++
		}
	}
	for _, name := range cert.CRLDistributionPoints[:min(perCertificate, len(cert.CRLDistributionPoints))] {
		if _, err := parseURL(name); err != nil || c.sources[name] != nil || n >= c.cfg.MaxSources {
			continue
		}
		n++
		c.sources[name] = &source{name: name, url: true, named: true, whose: issuer.RawSubject}
	}
}

// work returns what reads a source, unless somebody has since the attempts were counted.
func (c *Checker) work(s *source, attempts uint64) func(context.Context) (struct{}, error) {
	return func(ctx context.Context) (none struct{}, err error) {
		select {
		case c.slots <- struct{}{}:
			defer func() { <-c.slots }()
		case <-ctx.Done():
			return none, ctx.Err()
		}
		c.mu.Lock()
		done := s.attempts() != attempts
		c.mu.Unlock()
		if done {
			return none, nil
		}
		if !s.url {
			c.readFile(s, true)
			return none, nil
		}
		c.mu.Lock()
		first := s.named && !s.tried
		c.mu.Unlock()
		if first {
			c.restoreOne(s)
		}
		c.finish(s, c.fetch(ctx, s))
		return none, nil
	}
}

// finish notes the outcome of an attempt.
func (c *Checker) finish(s *source, err error) {
	now := c.cfg.Now()
	c.mu.Lock()
	defer c.mu.Unlock()
	s.tried, s.err = true, err
	if err != nil {
		s.failures++
		s.retry = now.Add(c.cfg.Retry)
		s.next = s.retry
		c.cfg.Logger.Warn("revocation list could not be read", "set", c.cfg.Set, "source", s.name, "error", err)
		return
	}
	s.successes++
	s.fetched, s.retry = now, time.Time{}
	s.next = now.Add(c.cfg.Refresh)
	l := s.current
	if l == nil {
		l = s.pending
	}
	if l != nil {
		// Soon enough before the end that a failure can be repaired.
		soon := l.nextUpdate.Add(-min(l.nextUpdate.Sub(l.thisUpdate)/10, c.cfg.Refresh))
		s.next = earlier(s.next, soon)
		if now.After(l.nextUpdate) {
			s.retry = now.Add(c.cfg.Retry) // the source itself is late
		}
	}
	if least := now.Add(c.cfg.Retry); s.next.Before(least) {
		s.next = least
	}
}

// fetchDue starts what is due, and does not wait.
func (c *Checker) fetchDue(ctx context.Context) {
	now := c.cfg.Now()
	c.mu.Lock()
	due := make(map[*source]uint64)
	for _, s := range c.sources {
		// A clock that was set back must not stop the fetches.
		if s.url && (!now.Before(s.next) || s.next.Sub(now) > c.cfg.Refresh+c.cfg.Retry) {
			due[s] = s.attempts()
		}
	}
	c.mu.Unlock()
	for s, attempts := range due {
		c.fetches.Start(ctx, s.name, c.cfg.Timeout, c.work(s, attempts))
	}
}

// fetch gets a list by URL, at most once at a time for each.
func (c *Checker) fetch(ctx context.Context, s *source) error {
	refuse := func(fault string, err error) error {
		if e, ok := errors.AsType[*url.Error](err); ok {
			err = e.Err // it repeats the URL
		}
		return &SourceError{s.name, fault, err}
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.name, nil)
	if err != nil {
		return refuse("not a URL", nil)
	}
	req.Header.Set("Accept", "application/pkix-crl, application/x-pem-file;q=0.5, */*;q=0.1")
	c.mu.Lock()
	if s.current != nil || s.pending != nil {
		if s.etag != "" {
			req.Header.Set("If-None-Match", s.etag)
		} else if s.modified != "" {
			req.Header.Set("If-Modified-Since", s.modified)
		}
	}
	conditional := s.etag != "" || s.modified != ""
	client := c.configured
	if s.named {
		client = c.named
	}
	c.mu.Unlock()
	resp, err := client.Do(req)
	if err != nil {
		return refuse("no answer", err)
	}
	defer resp.Body.Close()
	switch {
	case resp.StatusCode == http.StatusNotModified && conditional:
		return nil
	case resp.StatusCode != http.StatusOK:
		return refuse(fmt.Sprintf("status %d where 200 was expected", resp.StatusCode), nil)
	}
	if resp.ContentLength > c.cfg.MaxBytes*3/2 { // PEM is longer than DER
		return refuse(fmt.Sprintf("%d octets, larger than the %d that are allowed", resp.ContentLength, c.cfg.MaxBytes), nil)
	}
	spool := c.newSpool(s)
	l, err := ReadList(io.TeeReader(resp.Body, spool), c.cfg.MaxBytes)
	if err != nil {
		spool.discard()
		return refuse("the answer is not a list that can be used", err)
	}
	file := spool.close()

	c.mu.Lock()
	defer c.mu.Unlock()
	before := s.pending
	if err := c.accept(s, l); err != nil {
		if s.pending != l {
			spool.discard()
		} else {
			s.spool = file
		}
		return err
	}
	s.etag, s.modified, s.storeErr = resp.Header.Get("ETag"), resp.Header.Get("Last-Modified"), spool.err
	if len(s.etag) > 1024 || len(s.modified) > 64 {
		s.etag, s.modified = "", ""
	}
	if s.pending != before && s.pending == l {
		s.spool = file
		return nil
	}
	s.fetched = c.cfg.Now()
	c.keep(s, file)
	return nil
}

// A meta is what is kept beside a list.
type meta struct {
	URL          string    `json:"url"`
	ETag         string    `json:"etag,omitzero"`
	LastModified string    `json:"last_modified,omitzero"`
	Fetched      time.Time `json:"fetched"`
}

func (c *Checker) keptAs(s *source) string {
	sum := sha256.Sum256([]byte(s.name))
	return filepath.Join(c.cfg.Folder, hex.EncodeToString(sum[:16]))
}

// keep moves the file of a list to where a restart finds it. That it fails, as on a full
// disk, changes nothing for this process. The caller holds the lock.
func (c *Checker) keep(s *source, file string) {
	if file == "" {
		return
	}
	name := c.keptAs(s)
	// First the list: an old one with a new ETag would never be replaced.
	err := os.Rename(file, name+".crl")
	if err == nil {
		var text []byte
		if text, err = json.Marshal(meta{s.name, s.etag, s.modified, s.fetched}); err == nil {
			if err = os.WriteFile(name+".json.new", text, 0o600); err == nil {
				err = os.Rename(name+".json.new", name+".json")
			}
		}
	}
	if err != nil {
		os.Remove(file)
		os.Remove(name + ".json")
	}
	if s.storeErr == nil {
		s.storeErr = err
	}
	if s.storeErr != nil {
		c.cfg.Logger.Warn("revocation list could not be kept on disk", "set", c.cfg.Set, "source", s.name, "error", s.storeErr)
	}
}

// A spool writes what is read to a file, if there is a folder and as long as that works.
type spool struct {
	file *os.File
	buf  *bufio.Writer
	err  error
}

func (c *Checker) newSpool(s *source) *spool {
	if c.cfg.Folder == "" {
		return &spool{}
	}
	file, err := os.CreateTemp(c.cfg.Folder, ".fetch-*")
	if err != nil {
		return &spool{err: err}
	}
	return &spool{file: file, buf: bufio.NewWriterSize(file, 64<<10)}
}

func (p *spool) Write(b []byte) (int, error) {
	if p.file != nil && p.err == nil {
		_, p.err = p.buf.Write(b)
	}
	return len(b), nil // the list is used all the same
}

// close returns the name of the file, or nothing if it is not whole.
func (p *spool) close() string {
	if p.file == nil {
		return ""
	}
	if p.err == nil {
		p.err = p.buf.Flush()
	}
	if p.err == nil {
		p.err = p.file.Sync()
	}
	if err := p.file.Close(); p.err == nil {
		p.err = err
	}
	if p.err != nil {
		p.discard()
		return ""
	}
	return p.file.Name()
}

func (p *spool) discard() {
	if p.file != nil {
		p.file.Close()
		os.Remove(p.file.Name())
	}
}

// restore reads what was kept for the URLs of the configuration, and removes what an
// earlier process has left behind in the middle of a fetch.
func (c *Checker) restore() {
	if c.cfg.Folder == "" {
		return
	}
	left, _ := filepath.Glob(filepath.Join(c.cfg.Folder, ".fetch-*"))
	for _, name := range left {
		os.Remove(name)
	}
	for _, s := range c.sources {
		c.restoreOne(s)
	}
}

func (c *Checker) restoreOne(s *source) {
	if c.cfg.Folder == "" || !s.url {
		return
	}
	name := c.keptAs(s)
	file, err := os.Open(name + ".crl")
	if err != nil {
		return
	}
	defer file.Close()
	l, err := ReadList(file, c.cfg.MaxBytes)
	c.mu.Lock()
	defer c.mu.Unlock()
	if err == nil {
		err = c.accept(s, l)
	}
	if err != nil {
		s.storeErr = err
		return
	}
	var m meta
	if text, err := os.ReadFile(name + ".json"); err == nil && json.Unmarshal(text, &m) == nil && m.URL == s.name {
		s.etag, s.modified, s.fetched = m.ETag, m.LastModified, m.Fetched
	}
}

const maxFiles = 1_000

// readFiles looks for files that have changed, and for new ones in folders.
func (c *Checker) readFiles(first bool) {
	now := c.cfg.Now()
	c.mu.Lock()
	if since := now.Sub(c.scanned); !first && since >= 0 && since < c.cfg.Poll {
		c.mu.Unlock()
		return
	}
	c.scanned = now
	var files []*source
	for _, folder := range c.folders {
		entries, err := os.ReadDir(folder)
		if err != nil {
			c.cfg.Logger.Warn("folder of revocation lists could not be read", "set", c.cfg.Set, "folder", folder, "error", err)
			continue // its lists stay
		}
		there := make(map[string]bool)
		for _, e := range entries {
			name := filepath.Join(folder, e.Name())
			if e.IsDir() || isHidden(name) || len(there) >= maxFiles {
				continue
			}
			there[name] = true
			if c.sources[name] == nil {
				c.sources[name] = &source{name: name, inDir: folder}
			}
		}
		for name, s := range c.sources {
			if s.inDir == folder && !there[name] {
				delete(c.sources, name)
				c.rebuild()
				c.cfg.Logger.Warn("revocation list was taken away", "set", c.cfg.Set, "source", name)
			}
		}
	}
	for _, s := range c.sources {
		if !s.url {
			files = append(files, s)
		}
	}
	c.mu.Unlock()
	for _, s := range files {
		c.readFile(s, false)
	}
}

// readFile reads a file if it has changed or could not be read the last time.
func (c *Checker) readFile(s *source, force bool) {
	c.mu.Lock()
	last, broken := s.stat, s.err != nil
	c.mu.Unlock()
	info, err := os.Stat(s.name)
	if err != nil {
		c.failFile(s, err)
		return
	}
	stat := fileStat{info.Size(), info.ModTime()}
	if stat == last && !broken && !force {
		return
	}
	file, err := os.Open(s.name)
	if err != nil {
		c.failFile(s, err)
		return
	}
	defer file.Close()
	l, err := ReadList(file, c.cfg.MaxBytes)
	if err != nil {
		c.failFile(s, &SourceError{s.name, "not a list that can be used", err})
		return
	}
	c.mu.Lock()
	s.stat = stat
	err = c.accept(s, l)
	c.mu.Unlock()
	if err != nil {
		c.failFile(s, err)
		return
	}
	c.finish(s, nil)
}

// failFile notes a failure, and logs it only if it is a new one.
func (c *Checker) failFile(s *source, err error) {
	c.mu.Lock()
	same := s.err != nil && s.err.Error() == err.Error()
	if same {
		s.failures++
		s.tried, s.retry = true, c.cfg.Now().Add(c.cfg.Retry)
	}
	c.mu.Unlock()
	if !same {
		c.finish(s, err)
	}
}

// httpURLs returns those of the URLs that can be asked, at most two.
func httpURLs(in []string) (out []string) {
	for _, raw := range in {
		if _, err := parseURL(strings.TrimSpace(raw)); err == nil && len(out) < 2 {
			out = append(out, strings.TrimSpace(raw))
		}
	}
	return out
}

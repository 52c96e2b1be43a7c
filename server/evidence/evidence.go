// Package evidence keeps the certificates of requests in a bounded folder, each once and
// by its digest, so that a record of the log can be judged again later. It keeps no token,
// and nothing that is secret: certificates go over the wire for everybody who is asked.
//
// What came with a request that was allowed is kept apart from what was refused, each with
// half of the space: a stranger who invents certificates pushes out those of strangers.
package evidence

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Config holds the settings of a [Keeper].
type Config struct {
	// Folder is made with mode 0700 if it does not exist. Required. It belongs to one
	// process; others may read.
	Folder string
	// MaxBytes bounds what the files of the folder take, each at least a block of 4 KiB. If
	// zero, 64 MiB, which is room for 16,384 files.
	MaxBytes int64
	// MaxAge is how long a certificate is kept after it was last seen. If zero, 30 days.
	MaxAge time.Duration
	// Now returns the current time. If nil, time.Now.
	Now func() time.Time
	// Logger is told when nothing can be written, and when it can again. If nil,
	// slog.Default.
	Logger *slog.Logger
}

// Names of the two halves.
const (
	allowedHalf = "allowed"
	refusedHalf = "refused"
)

// halves are searched in this order.
var halves = []string{allowedHalf, refusedHalf}

const (
	certificateEnd = ".der"
	chainEnd       = ".chain"
	maxCertificate = 64 << 10
	maxPresented   = 16        // certificates of one request
	maxChains      = 8         // that are remembered for one leaf
	queueLength    = 1024      // requests that wait to be written
	againAfter     = time.Hour // until a certificate that goes on being used is noted again
)

// A Keeper writes evidence. Its nil value keeps nothing. It is safe for concurrent use.
type Keeper struct {
	cfg     Config
	root    *os.Root
	queue   chan item
	dropped atomic.Int64
	failing bool // the worker's

	mu   sync.Mutex
	seen map[[sha256.Size]byte]time.Time

	// The worker's own: what is in the folder.
	files map[string]*file // by half and name
	bytes map[string]int64 // by half
}

// An item is what came with one request.
type item struct {
	presented []*x509.Certificate
	allowed   bool
}

// A file is what is known of one.
type file struct {
	size int64
	seen time.Time
}

// Open opens the folder, or makes it, and looks at what is there.
func Open(cfg Config) (*Keeper, error) {
	cfg.MaxBytes, cfg.MaxAge = cmp.Or(cfg.MaxBytes, 64<<20), cmp.Or(cfg.MaxAge, 30*24*time.Hour)
	cfg.Logger = cmp.Or(cfg.Logger, slog.Default())
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Folder == "" || cfg.MaxBytes < 0 || cfg.MaxAge < 0 {
		return nil, fmt.Errorf("evidence: expected a folder and bounds that are not negative, found %q, %d bytes and %s", cfg.Folder, cfg.MaxBytes, cfg.MaxAge)
	}
	if err := os.MkdirAll(cfg.Folder, 0o700); err != nil {
		return nil, fmt.Errorf("evidence: folder: %w", err)
	}
	root, err := os.OpenRoot(cfg.Folder)
	if err != nil {
		return nil, fmt.Errorf("evidence: folder: %w", err)
	}
	k := &Keeper{
		cfg: cfg, root: root, queue: make(chan item, queueLength), seen: map[[sha256.Size]byte]time.Time{},
		files: map[string]*file{}, bytes: map[string]int64{},
	}
	for _, half := range halves {
		if err := k.scan(half); err != nil {
			return nil, errors.Join(fmt.Errorf("evidence: folder: %w", err), root.Close())
		}
	}
	return k, nil
}

func (k *Keeper) scan(half string) error {
	if err := k.root.Mkdir(half, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	entries, err := fs.ReadDir(k.root.FS(), half)
	if err != nil {
		return err
	}
	for _, e := range entries {
		info, err := e.Info()
		if err != nil || !info.Mode().IsRegular() {
			continue
		}
		name := half + "/" + e.Name()
		if strings.HasSuffix(name, ".tmp") { // of a process that was killed
			_ = k.root.Remove(name)
			continue
		}
		k.files[name] = &file{space(info.Size()), info.ModTime()}
		k.bytes[half] += space(info.Size())
	}
	return nil
}

// Keep notes what came with a request. It never waits: if too much waits already to be
// written, nothing is kept of this one, and [Keeper.Dropped] counts.
func (k *Keeper) Keep(leaf *x509.Certificate, chain []*x509.Certificate, allowed bool) {
	if k == nil || leaf == nil || len(chain) >= maxPresented {
		return
	}
	h := sha256.New()
	h.Write(leaf.Raw)
	for _, c := range chain {
		h.Write(c.Raw)
	}
	if allowed {
		h.Write([]byte{1})
	}
	key, now := [sha256.Size]byte(h.Sum(nil)), k.cfg.Now()
	k.mu.Lock()
	known := now.Sub(k.seen[key]) < againAfter
	if !known {
		if len(k.seen) >= 10_000 {
			clear(k.seen)
		}
		k.seen[key] = now
	}
	k.mu.Unlock()
	if known {
		return
	}
	select {
	case k.queue <- item{append([]*x509.Certificate{leaf}, chain...), allowed}:
	default:
		k.dropped.Add(1)
		k.mu.Lock()
		delete(k.seen, key)
		k.mu.Unlock()
	}
}

// Dropped counts the requests of which nothing could be kept.
func (k *Keeper) Dropped() int64 { return k.dropped.Load() }

// Run writes until ctx ends, and then what is waiting still.
func (k *Keeper) Run(ctx context.Context) {
	if k == nil {
		return
	}
	defer k.root.Close()
	tick := time.NewTicker(time.Hour)
	defer tick.Stop()
	k.trim()
	for {
		select {
		case i := <-k.queue:
			k.take(i)
		case <-tick.C:
			k.trim()
		case <-ctx.Done():
			for {
				select {
				case i := <-k.queue:
					k.take(i)
				default:
					return
				}
			}
		}
	}
}

func (k *Keeper) take(i item) {
	err := k.write(i)
	k.trim()
	if err != nil {
		k.dropped.Add(1)
	}
	if failing := err != nil; failing != k.failing {
		k.failing = failing
		if failing {
			k.cfg.Logger.Warn("evidence: certificates cannot be kept", slog.Any("cause", err))
		} else {
			k.cfg.Logger.Info("evidence: certificates are kept again")
		}
	}
}

func digest(c *x509.Certificate) string {
	sum := sha256.Sum256(c.Raw)
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

// write keeps the certificates of a request, and which came together.
func (k *Keeper) write(i item) error {
	half := refusedHalf
	if i.allowed {
		half = allowedHalf
	}
	var errs []error
	var names []string
	for _, c := range i.presented {
		name := digest(c)
		names = append(names, name)
		if len(c.Raw) > maxCertificate {
			continue
		}
		errs = append(errs, k.put(half, name+certificateEnd, c.Raw))
	}
	index := half + "/" + names[0] + chainEnd
	chains := readChains(k.root, index)
	return errors.Join(append(errs, k.replace(half, names[0]+chainEnd, chains.with(names[1:], k.cfg.Now())))...)
}

// put keeps a certificate once: where it is already, it is only noted as seen.
func (k *Keeper) put(half, base string, data []byte) error {
	name := half + "/" + base
	now := k.cfg.Now()
	if k.files[name] == nil {
		switch other := allowedHalf + "/" + base; {
		case half == refusedHalf && k.files[other] != nil:
			name = other
		case half == allowedHalf && k.files[refusedHalf+"/"+base] != nil:
			k.remove(refusedHalf + "/" + base) // it moves
		}
	}
	f := k.files[name]
	if f == nil {
		return k.replace(half, base, data)
	}
	f.seen = now
	return k.root.Chtimes(name, now, now)
}

// replace writes a file whole, or not at all.
func (k *Keeper) replace(half, base string, data []byte) error {
	name := half + "/" + base
	temp := name + ".tmp"
	w, err := k.root.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = w.Write(data)
	if err = errors.Join(err, w.Close()); err == nil {
		err = k.root.Rename(temp, name)
	}
	if err != nil {
		_ = k.root.Remove(temp)
		return err
	}
	if old := k.files[name]; old != nil {
		k.bytes[half] -= old.size
	}
	now := k.cfg.Now()
	k.files[name] = &file{space(int64(len(data))), now}
	k.bytes[half] += space(int64(len(data)))
	return k.root.Chtimes(name, now, now)
}

// space is what a file takes of the disk: whole blocks. The smallest certificates have 200
// bytes, and counted by these a stranger could fill the disk with 300,000 files.
func space(size int64) int64 {
	const block = 4 << 10
	return max(1, (size+block-1)/block) * block
}

func (k *Keeper) remove(name string) {
	half, _, _ := strings.Cut(name, "/")
	if err := k.root.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return // it stays, and counts
	}
	k.bytes[half] -= k.files[name].size
	delete(k.files, name)
}

// trim removes what is too old, and the oldest of what is too much.
func (k *Keeper) trim() {
	oldest := k.cfg.Now().Add(-k.cfg.MaxAge)
	for name, f := range k.files {
		if f.seen.Before(oldest) {
			k.remove(name)
		}
	}
	for _, half := range halves {
		if k.bytes[half] <= k.cfg.MaxBytes/2 {
			continue
		}
		var names []string
		for name := range k.files {
			if strings.HasPrefix(name, half+"/") {
				names = append(names, name)
			}
		}
		slices.SortFunc(names, func(a, b string) int {
			return cmp.Or(k.files[a].seen.Compare(k.files[b].seen), strings.Compare(a, b))
		})
		// Down to nine tenths, so that not each request has to sort.
		for _, name := range names {
			if k.bytes[half] <= k.cfg.MaxBytes/20*9 {
				break
			}
			k.remove(name)
		}
	}
}

// A chainLine is what came with a leaf, and when.
type chainLine struct {
	first, last time.Time
	names       []string
}

type chains []chainLine

// with returns the text of the chains with one more, the newest first.
func (c chains) with(names []string, now time.Time) []byte {
	line := chainLine{now, now, names}
	if i := slices.IndexFunc(c, func(l chainLine) bool { return slices.Equal(l.names, names) }); i >= 0 {
		line.first = c[i].first
		c = slices.Delete(slices.Clone(c), i, i+1)
	}
	var b bytes.Buffer
	for _, l := range append(chains{line}, c[:min(len(c), maxChains-1)]...) {
		fmt.Fprintf(&b, "%d %d %s\n", l.first.Unix(), l.last.Unix(), strings.Join(l.names, " "))
	}
	return b.Bytes()
}

func readChains(root *os.Root, name string) (out chains) {
	data, err := readBounded(root, name)
	if err != nil {
		return nil
	}
	return parseChains(data)
}

// parseChains reads what with has written; lines that are not of it are passed over.
func parseChains(data []byte) (out chains) {
	lines := bufio.NewScanner(bytes.NewReader(data))
	for lines.Scan() && len(out) < maxChains {
		parts := strings.Fields(lines.Text())
		if len(parts) < 2 || len(parts) > 2+maxPresented {
			continue
		}
		first, err1 := strconv.ParseInt(parts[0], 10, 64)
		last, err2 := strconv.ParseInt(parts[1], 10, 64)
		if err1 != nil || err2 != nil || slices.ContainsFunc(parts[2:], func(n string) bool { return !isDigest(n) }) {
			continue
		}
		out = append(out, chainLine{time.Unix(first, 0), time.Unix(last, 0), parts[2:]})
	}
	return out
}

func readBounded(root *os.Root, name string) ([]byte, error) {
	f, err := root.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxCertificate+1))
	if err == nil && len(data) > maxCertificate {
		err = errors.New("evidence: " + name + ": larger than a certificate")
	}
	return data, err
}

// isDigest keeps everything that is no digest away from names of files.
func isDigest(s string) bool {
	b, err := base64.RawURLEncoding.Strict().DecodeString(s)
	return err == nil && len(b) == sha256.Size
}

// ErrNone reports a certificate that the folder does not have.
var ErrNone = errors.New("evidence: the folder does not have the certificate")

// Found is what the folder has of a request.
type Found struct {
	Leaf  *x509.Certificate
	Chain []*x509.Certificate
	// Missing are digests of certificates that came with it and are not there any more.
	Missing []string
	// Uncertain is set if the leaf came with different chains, and the time does not tell
	// with which.
	Uncertain bool
}

// Read looks up a certificate by its x5t#S256, and what came with it at a time. chain, if
// not nil, are the digests that the record itself names. Errors are [ErrNone], or those of
// the file system. What is damaged counts as not there.
func Read(folder, thumbprint string, chain []string, at time.Time) (*Found, error) {
	root, err := os.OpenRoot(folder)
	if err != nil {
		return nil, fmt.Errorf("evidence: folder: %w", err)
	}
	defer root.Close()
	f := &Found{}
	if f.Leaf = readCertificate(root, thumbprint); f.Leaf == nil {
		return nil, ErrNone
	}
	if chain == nil {
		var all chains
		for _, half := range halves {
			all = append(all, readChains(root, half+"/"+thumbprint+chainEnd)...)
		}
		chain, f.Uncertain = all.at(at)
	}
	for _, name := range chain[:min(len(chain), maxPresented)] {
		if c := readCertificate(root, name); c != nil {
			f.Chain = append(f.Chain, c)
		} else {
			f.Missing = append(f.Missing, name)
		}
	}
	return f, nil
}

// at returns the chain of a time. Lines are written once in an hour, so that their last
// time is that much too early at most.
func (c chains) at(at time.Time) (names []string, uncertain bool) {
	var fits chains
	for _, l := range c {
		if !at.Before(l.first.Add(-time.Second)) && at.Before(l.last.Add(againAfter+time.Second)) {
			fits = append(fits, l)
		}
	}
	if len(fits) == 0 {
		fits = c
	}
	for i, l := range fits {
		if i == 0 {
			names = l.names
		} else if !slices.Equal(l.names, names) {
			return names, true
		}
	}
	return names, false
}

func readCertificate(root *os.Root, name string) *x509.Certificate {
	if !isDigest(name) {
		return nil
	}
	for _, half := range halves {
		data, err := readBounded(root, half+"/"+name+certificateEnd)
		if err != nil {
			continue
		}
		if c, err := x509.ParseCertificate(data); err == nil && digest(c) == name {
			return c
		}
	}
	return nil
}

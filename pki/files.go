package pki

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/certbound/certbound/decision"
)

// Limits on what is read from files. They are far above what anybody needs and keep
// a wrong path from filling the memory.
const (
	maxFileSize         = 4 << 20
	maxFilesInDirectory = 1_000
	maxCertificates     = 10_000
)

// A FileSet is a [Set] whose certificates lie in PEM files.
type FileSet struct {
	Name string
	// AnchorFiles and HelperFiles are PEM files, or directories of them. In a
	// directory every file counts whose name does not begin with a dot; it must
	// hold certificates and nothing else. Directories are not entered further.
	AnchorFiles, HelperFiles []string
	Policy                   Policy
	Revocation               RevocationChecker
	// RefuseAnchor, if set, is asked about each anchor. It returns what is wrong with it
	// and what to do about that, or "" if nothing is. It is asked again whenever the
	// files are read.
	RefuseAnchor func(*x509.Certificate) (fault, fix string)
}

// A FileError is a fault of a file of trust anchors or helpers.
type FileError struct {
	Reason decision.Reason
	Path   string
	// Line is where the faulty block begins. Zero means the whole file.
	Line int
	// Fault says what is wrong, Fix what to do about it.
	Fault, Fix string
	Err        error
}

func (e *FileError) Error() string {
	var b strings.Builder
	b.WriteString("pki: " + e.Path)
	if e.Line > 0 {
		fmt.Fprintf(&b, ":%d", e.Line)
	}
	b.WriteString(": " + e.Fault)
	if e.Err != nil {
		b.WriteString(": " + e.Err.Error())
	}
	if e.Fix != "" {
		b.WriteString("; " + e.Fix)
	}
	return b.String()
}

func (e *FileError) Unwrap() error { return e.Err }

// Load reads the files. It reports every fault at once: of type *[FileError] for what
// is wrong with a file, *[Error] for the set as a whole. A file that is missing,
// empty, broken, unreadable or holds anything but certificates is a fault, and so is
// a set of which every anchor has expired: less trust than the operator believes to
// have configured is as wrong as more.
func (f FileSet) Load(now time.Time) (Set, error) { return f.parse(f.read(), now) }

// A content is the content of one file, or why it could not be read.
type content struct {
	path   string
	helper bool
	data   []byte
	err    *FileError
}

// contents are all files of a set, in a stable order.
type contents []content

// digest names the contents. Symbolic links do not matter: where they lead to does.
func (c contents) digest() [sha256.Size]byte {
	h := sha256.New()
	for _, f := range c {
		fmt.Fprintf(h, "%q %t %d ", f.path, f.helper, len(f.data))
		h.Write(f.data)
		if f.err != nil {
			fmt.Fprintf(h, "%q", f.err.Error())
		}
	}
	return [sha256.Size]byte(h.Sum(nil))
}

func (f FileSet) read() contents {
	var all contents
	for _, list := range []struct {
		paths  []string
		helper bool
	}{{f.AnchorFiles, false}, {f.HelperFiles, true}} {
		for _, path := range list.paths {
			names, err := filesAt(path)
			if err != nil {
				all = append(all, content{path: path, helper: list.helper, err: err})
			}
			for _, name := range names {
				data, err := readFile(name)
				all = append(all, content{name, list.helper, data, err})
			}
		}
	}
	return all
}

// filesAt returns path itself, or the files in it if it is a directory.
func filesAt(path string) ([]string, *FileError) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, unreadable(path, err)
	}
	if !info.IsDir() {
		return []string{path}, nil
	}
	entries, err := os.ReadDir(path) // sorted by name
	if err != nil {
		return nil, unreadable(path, err)
	}
	var names []string
	for _, entry := range entries {
		if strings.HasPrefix(entry.Name(), ".") { // "..data" of Kubernetes, editors' files
			continue
		}
		name := filepath.Join(path, entry.Name())
		if info, err := os.Stat(name); err == nil && info.IsDir() {
			continue
		}
		names = append(names, name)
	}
	switch {
	case len(names) == 0:
		return nil, &FileError{Reason: decision.BadSetting, Path: path,
			Fault: "the directory holds no files", Fix: "put a PEM file with CA certificates into it"}
	case len(names) > maxFilesInDirectory:
		return nil, &FileError{Reason: decision.BadSetting, Path: path,
			Fault: fmt.Sprintf("the directory holds %d files, more than %d", len(names), maxFilesInDirectory),
			Fix:   "name a directory that holds CA certificates only"}
	}
	return names, nil
}

func readFile(path string) ([]byte, *FileError) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, unreadable(path, err)
	}
	if !info.Mode().IsRegular() { // opening a pipe would wait for its other end
		return nil, &FileError{Reason: decision.BadSetting, Path: path,
			Fault: "not a regular file but " + info.Mode().Type().String(), Fix: "name a PEM file"}
	}
	file, err := os.Open(path)
	if err != nil {
		return nil, unreadable(path, err)
	}
	defer file.Close()
	data, err := io.ReadAll(io.LimitReader(file, maxFileSize+1))
	if err != nil {
		return nil, unreadable(path, err)
	}
	if len(data) > maxFileSize {
		return nil, &FileError{Reason: decision.BadSetting, Path: path,
			Fault: fmt.Sprintf("larger than %d MiB", maxFileSize>>20), Fix: "name a PEM file with CA certificates only"}
	}
	return data, nil
}

func unreadable(path string, err error) *FileError {
	e := &FileError{Reason: decision.BadSetting, Path: path, Fault: "cannot be read", Err: err,
		Fix: "see that it is a readable PEM file"}
	if pe, ok := errors.AsType[*fs.PathError](err); ok {
		e.Err = pe.Err // the path stands in front already
	}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		e.Fault, e.Fix = "is missing", "correct the path, or create the file"
	case errors.Is(err, fs.ErrPermission):
		e.Fix = "give the user of this process the right to read it"
	}
	return e
}

func (f FileSet) parse(files contents, now time.Time) (Set, error) {
	s := Set{Name: f.Name, Policy: f.Policy, Revocation: f.Revocation}
	var faults []error
	policy, wrong := f.Policy.rules()
	for _, file := range files {
		if file.err != nil {
			faults = append(faults, file.err)
			continue
		}
		blocks, wrongBlocks := parsePEM(file.data)
		for _, e := range wrongBlocks {
			e.Path = file.path
			faults = append(faults, e)
		}
		for _, b := range blocks {
			fault := func(reason decision.Reason, text, fix string) {
				faults = append(faults, &FileError{Reason: reason, Path: file.path, Line: b.line,
					Fault: "certificate " + nameOf(b.cert) + ": " + text, Fix: fix})
			}
			if !isCA(b.cert) && (file.helper || !f.Policy.AllowPinnedLeaf) {
				fault(decision.NotCA, "is not a CA certificate",
					"name the certificate of the CA that issues for the clients, not that of a client or server")
			}
			if e := policy.key(b.cert); e != nil && len(wrong) == 0 && !file.helper {
				fault(e.Reason, "expected "+e.Expected+", found "+e.Found, "replace the CA, or change the policy of the set")
			}
			if file.helper {
				s.Helpers = append(s.Helpers, b.cert)
				continue
			}
			if f.RefuseAnchor != nil {
				if text, fix := f.RefuseAnchor(b.cert); text != "" {
					fault(decision.BadSetting, text, fix)
				}
			}
			s.Anchors = append(s.Anchors, b.cert)
		}
	}
	s.Anchors, s.Helpers = distinct(s.Anchors), distinct(s.Helpers)
	if n := len(s.Anchors) + len(s.Helpers); n > maxCertificates {
		faults = append(faults, &Error{Reason: decision.BadSetting, Set: f.Name,
			Expected: fmt.Sprintf("at most %d certificates", maxCertificates), Found: fmt.Sprint(n)})
	}
	if len(faults) == 0 {
		// What is left concerns the set as a whole: none, all expired, the policy.
		if _, err := newTrust(s, now); err != nil {
			faults = append(faults, err)
		}
	}
	if len(faults) > 0 {
		return Set{}, errors.Join(faults...)
	}
	return s, nil
}

// distinct drops repetitions; a directory that was prepared for OpenSSL names each
// certificate twice.
func distinct(certs []*x509.Certificate) []*x509.Certificate {
	seen := make(map[[sha256.Size]byte]bool, len(certs))
	return slices.DeleteFunc(certs, func(c *x509.Certificate) bool {
		sum := sha256.Sum256(c.Raw)
		defer func() { seen[sum] = true }()
		return seen[sum]
	})
}

// ParsePEM reads the certificates of a PEM file, such as a trust bundle. Text between
// the blocks is allowed, blocks of other types are not. It returns all certificates
// or, at the first and every further fault, errors of type *[FileError], with line
// numbers and with name as the path.
func ParsePEM(name string, data []byte) ([]*x509.Certificate, error) {
	blocks, faults := parsePEM(data)
	if len(faults) > 0 {
		errs := make([]error, len(faults))
		for i, e := range faults {
			e.Path = name
			errs[i] = e
		}
		return nil, errors.Join(errs...)
	}
	certs := make([]*x509.Certificate, len(blocks))
	for i, b := range blocks {
		certs[i] = b.cert
	}
	return certs, nil
}

// A located certificate knows the line at which its block begins.
type located struct {
	cert *x509.Certificate
	line int
}

// parsePEM reads line by line, since pem.Decode passes silently over what it cannot
// read: a bundle that was cut short would lose a CA and nobody would know.
func parsePEM(data []byte) (certs []located, faults []*FileError) {
	fault := func(line int, err error, text, fix string) {
		faults = append(faults, &FileError{Reason: decision.BadSetting, Line: line, Fault: text, Fix: fix, Err: err})
	}
	const begin, end, dashes = "-----BEGIN ", "-----END ", "-----"
	data = bytes.TrimPrefix(data, []byte("\xef\xbb\xbf"))
	switch {
	case len(bytes.TrimSpace(data)) == 0:
		fault(0, nil, "the file is empty", "put the PEM certificate of at least one CA into it")
		return nil, faults
	case !bytes.Contains(data, []byte(begin)) && data[0] == 0x30:
		fault(0, nil, "not PEM; it looks like DER", "convert it: openssl x509 -inform der -in FILE -out FILE.pem")
		return nil, faults
	case bytes.IndexByte(data, 0) >= 0:
		fault(0, nil, "not PEM; it holds NUL octets", "store it as plain text, not as UTF-16")
		return nil, faults
	}

	var block []byte // from the BEGIN line on
	var kind string
	number, start := 0, 0
	for line := range bytes.Lines(data) {
		number++
		text := string(bytes.TrimSpace(line))
		if rest, ok := strings.CutPrefix(text, begin); ok {
			if start > 0 {
				fault(start, nil, "a block without an END line", "the file was cut short; write it again")
			}
			kind, start, block = strings.TrimSuffix(rest, dashes), number, nil
			if line[0] != '-' {
				fault(number, nil, "an indented block", "remove the spaces before its lines")
				start = 0
			}
		}
		if start > 0 {
			block = append(block, line...)
		}
		rest, ok := strings.CutPrefix(text, end)
		if !ok {
			continue
		}
		at := start
		start = 0
		switch {
		case at == 0: // it was reported, or there was no BEGIN
			if len(faults) == 0 {
				fault(number, nil, "an END line without a block", "the beginning of the file is lost; write it again")
			}
		case strings.TrimSuffix(rest, dashes) != kind:
			fault(at, nil, fmt.Sprintf("a block that begins as %q and ends as %q", cut(kind), cut(strings.TrimSuffix(rest, dashes))),
				"write the file again")
		default:
			cert, e := parseBlock(kind, block)
			if e != nil {
				e.Line = at
				faults = append(faults, e)
				continue
			}
			certs = append(certs, located{cert, at})
		}
	}
	if start > 0 {
		fault(start, nil, "a block without an END line", "the file was cut short; write it again")
	}
	if len(certs) == 0 && len(faults) == 0 {
		fault(0, nil, "no PEM certificate in it", "put the PEM certificate of at least one CA into it")
	}
	if len(faults) > 0 {
		return nil, faults
	}
	return certs, nil
}

func parseBlock(kind string, block []byte) (*x509.Certificate, *FileError) {
	e := &FileError{Reason: decision.BadSetting, Fault: fmt.Sprintf("a block of type %q", cut(kind))}
	switch {
	case kind == "CERTIFICATE" || kind == "X509 CERTIFICATE":
	case strings.HasSuffix(kind, "PRIVATE KEY"):
		e.Fault = "a private key among certificates"
		e.Fix = "remove it, since only certificates belong here; if others could read the file, replace the key"
		return nil, e
	case kind == "TRUSTED CERTIFICATE":
		e.Fix = "convert it: openssl x509 -in FILE -out FILE.pem"
		return nil, e
	case kind == "PKCS7" || kind == "CMS":
		e.Fix = "convert it: openssl pkcs7 -print_certs -in FILE -out FILE.pem"
		return nil, e
	case strings.HasSuffix(kind, "CERTIFICATE REQUEST"):
		e.Fix = "put the certificate here, not the request for it"
		return nil, e
	case kind == "X509 CRL":
		e.Fix = "name revocation lists in the revocation settings"
		return nil, e
	default:
		e.Fix = "remove it, since only certificates belong here"
		return nil, e
	}
	b, rest := pem.Decode(block)
	if b == nil || len(bytes.TrimSpace(rest)) > 0 || len(b.Headers) > 0 {
		e.Fault, e.Fix = "a block that is not base64", "write the file again"
		return nil, e
	}
	cert, err := x509.ParseCertificate(b.Bytes)
	if err != nil {
		e.Reason, e.Err = decision.CertificateUnparsed, err
		e.Fault, e.Fix = "a block that is not a certificate", "get the certificate again from its CA"
		return nil, e
	}
	return cert, nil
}

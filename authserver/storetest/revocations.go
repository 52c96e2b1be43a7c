package storetest

import (
	"cmp"
	"errors"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/certbound/certbound/authserver"
)

func remember(t *testing.T, s authserver.Store, thumbprint, issuer, serial, clientID string, seen time.Time) {
	t.Helper()
	c := certificate(now.Add(time.Hour))
	c.Thumbprint, c.IssuerKeyID, c.Serial, c.ClientID, c.FirstSeen = thumbprint, issuer, serial, clientID, seen
	must(t, "SaveCertificate", s.SaveCertificate(t.Context(), c))
}

func byThumbprint(thumbprint string) authserver.RevokedCertificate {
	return authserver.RevokedCertificate{Thumbprint: thumbprint, Note: "stolen", At: now}
}

func byNumber(issuer, serial string) authserver.RevokedCertificate {
	return authserver.RevokedCertificate{IssuerKeyID: issuer, Serial: serial, Note: "stolen", At: now}
}

// isRevoked checks what the store says of a certificate.
func isRevoked(t *testing.T, s authserver.Store, thumbprint, issuer, serial string, want bool) *authserver.RevokedCertificate {
	t.Helper()
	got, err := s.CertificateRevoked(t.Context(), thumbprint, issuer, serial)
	if want {
		must(t, "CertificateRevoked "+thumbprint, err)
		return got
	}
	wantErr(t, "CertificateRevoked "+thumbprint, err, authserver.ErrNotFound)
	return nil
}

func certificateLists(t *testing.T, s authserver.Store) {
	ctx := t.Context()
	for i, name := range []string{"c", "a", "d", "b"} {
		remember(t, s, name, "aa", strconv.Itoa(i), "client-"+strconv.Itoa(i%2), now.Add(time.Duration(i)*time.Minute))
	}
	names := func(list []authserver.CertificateRecord, err error) (out []string) {
		t.Helper()
		must(t, "list of certificates", err)
		for _, c := range list {
			out = append(out, c.Thumbprint)
		}
		return out
	}
	if got := names(s.Certificates(ctx, "", 3)); !slices.Equal(got, []string{"a", "b", "c"}) {
		t.Errorf("the first page is %q", got)
	}
	if got := names(s.Certificates(ctx, "c", 3)); !slices.Equal(got, []string{"d"}) {
		t.Errorf("the second page is %q", got)
	}
	if got := names(s.ClientCertificates(ctx, "client-1", 9)); !slices.Equal(got, []string{"b", "a"}) {
		t.Errorf("the certificates of client-1 are %q, want the newest first", got)
	}
	if got := names(s.ClientCertificates(ctx, "client-1", 1)); !slices.Equal(got, []string{"b"}) {
		t.Errorf("the newest certificate of client-1 is %q", got)
	}
	if got := names(s.ClientCertificates(ctx, "client-2", 9)); len(got) != 0 {
		t.Errorf("the certificates of nobody are %q", got)
	}
	for _, limit := range []int{0, -1} {
		if got := names(s.Certificates(ctx, "", limit)); len(got) != 0 {
			t.Errorf("limit %d: %q", limit, got)
		}
	}
	_, err := s.Sweep(ctx, now.Add(2*time.Hour), 100)
	must(t, "Sweep", err)
	if got := names(s.ClientCertificates(ctx, "client-1", 9)); len(got) != 0 {
		t.Errorf("after the sweep the certificates of client-1 are %q", got)
	}
}

func revokedByThumbprint(t *testing.T, s authserver.Store) {
	ctx := t.Context()
	isRevoked(t, s, "t", "aa", "1", false)
	wantErr(t, "RestoreCertificate before", s.RestoreCertificate(ctx, byThumbprint("t")), authserver.ErrNotFound)
	first := byThumbprint("t")
	first.Expires = now.Add(time.Hour)
	must(t, "RevokeCertificate", s.RevokeCertificate(ctx, first))
	got := isRevoked(t, s, "t", "", "", true)
	if !got.At.Equal(now) || !got.Expires.Equal(first.Expires) {
		t.Errorf("the dates are %v and %v, want %v and %v", got.At, got.Expires, now, first.Expires)
	}
	if got.At, got.Expires = first.At, first.Expires; *got != first {
		t.Errorf("the record came back as %+v, want %+v", got, first)
	}
	isRevoked(t, s, "T", "", "", false)

	again := byThumbprint("t")
	again.At, again.Expires = now.Add(time.Minute), now.Add(time.Minute)
	must(t, "RevokeCertificate with an earlier end", s.RevokeCertificate(ctx, again))
	if got := isRevoked(t, s, "t", "", "", true); !got.At.Equal(now) || !got.Expires.Equal(first.Expires) {
		t.Errorf("after a second call the dates are %v and %v, want %v and %v", got.At, got.Expires, now, first.Expires)
	}
	again.Expires = time.Time{}
	must(t, "RevokeCertificate without an end", s.RevokeCertificate(ctx, again))
	_, err := s.Sweep(ctx, now.Add(100_000*time.Hour), 100)
	must(t, "Sweep", err)
	if got := isRevoked(t, s, "t", "", "", true); !got.Expires.IsZero() || !got.At.Equal(now) {
		t.Errorf("without an end: the dates are %v and %v", got.At, got.Expires)
	}
	must(t, "RestoreCertificate", s.RestoreCertificate(ctx, byThumbprint("t")))
	isRevoked(t, s, "t", "aa", "1", false)
	wantErr(t, "RestoreCertificate again", s.RestoreCertificate(ctx, byThumbprint("t")), authserver.ErrNotFound)
	must(t, "RevokeCertificate once more", s.RevokeCertificate(ctx, byThumbprint("t")))
	isRevoked(t, s, "t", "", "", true)
}

func revokedBySerial(t *testing.T, s authserver.Store) {
	ctx := t.Context()
	remember(t, s, "t1", "aa", "1", "c", now)
	remember(t, s, "t1twin", "aa", "1", "c", now)
	remember(t, s, "t2", "aa", "2", "c", now)
	must(t, "RevokeCertificate", s.RevokeCertificate(ctx, byNumber("aa", "1")))
	for _, name := range []string{"t1", "t1twin"} {
		got := isRevoked(t, s, name, "", "", true)
		if !got.Derived || got.Thumbprint != name || got.IssuerKeyID != "aa" || got.Serial != "1" || got.Note != "stolen" {
			t.Errorf("%s: the record is %+v, want one that is derived", name, got)
		}
		wantErr(t, "RestoreCertificate of a derived record", s.RestoreCertificate(ctx, byThumbprint(name)), authserver.ErrNotFound)
	}
	isRevoked(t, s, "never seen", "aa", "1", true)
	isRevoked(t, s, "never seen", "aa", "2", false)
	isRevoked(t, s, "never seen", "bb", "1", false)
	isRevoked(t, s, "t2", "", "", false)

	must(t, "RevokeCertificate of one by thumbprint too", s.RevokeCertificate(ctx, byThumbprint("t1")))
	if got := isRevoked(t, s, "t1", "", "", true); got.Derived {
		t.Error("the record of its own is still derived")
	}
	must(t, "RestoreCertificate of that", s.RestoreCertificate(ctx, byThumbprint("t1")))
	if got := isRevoked(t, s, "t1", "", "", true); !got.Derived {
		t.Error("without a record of its own it is not derived again")
	}
	must(t, "RevokeCertificate of one by thumbprint too", s.RevokeCertificate(ctx, byThumbprint("t1twin")))
	must(t, "RestoreCertificate", s.RestoreCertificate(ctx, byNumber("aa", "1")))
	isRevoked(t, s, "t1", "", "", false)
	isRevoked(t, s, "t1twin", "", "", true)
	isRevoked(t, s, "never seen", "aa", "1", false)
	wantErr(t, "RestoreCertificate again", s.RestoreCertificate(ctx, byNumber("aa", "1")), authserver.ErrNotFound)
}

// Another process is about to issue a token while the certificate is revoked: either the
// revocation finds the certificate, or this finds the revocation.
func revokedNotRemembered(t *testing.T, s authserver.Store) {
	ctx := t.Context()
	must(t, "RevokeCertificate", s.RevokeCertificate(ctx, byNumber("0a0b", "1f")))
	wantErr(t, "SaveCertificate by serial number", s.SaveCertificate(ctx, certificate(now)), authserver.ErrRevoked)
	_, err := s.Certificate(ctx, "thumbprint")
	wantErr(t, "Certificate", err, authserver.ErrNotFound)
	must(t, "RestoreCertificate", s.RestoreCertificate(ctx, byNumber("0a0b", "1f")))
	must(t, "RevokeCertificate", s.RevokeCertificate(ctx, byThumbprint("thumbprint")))
	wantErr(t, "SaveCertificate by thumbprint", s.SaveCertificate(ctx, certificate(now)), authserver.ErrRevoked)
	must(t, "RestoreCertificate", s.RestoreCertificate(ctx, byThumbprint("thumbprint")))
	must(t, "SaveCertificate", s.SaveCertificate(ctx, certificate(now)))
	for round := range 10 {
		serial := strconv.Itoa(round)
		race(8, func(i int) bool {
			if i == 0 {
				if err := s.RevokeCertificate(ctx, byNumber("cc", serial)); err != nil {
					t.Errorf("RevokeCertificate: %v", err)
				}
				return true
			}
			c := certificate(now)
			c.Thumbprint, c.IssuerKeyID, c.Serial = serial+"-"+strconv.Itoa(i), "cc", serial
			err := s.SaveCertificate(ctx, c)
			if err != nil && !errors.Is(err, authserver.ErrRevoked) {
				t.Errorf("SaveCertificate: %v", err)
			}
			return err == nil
		})
		for i := range 8 {
			thumbprint := serial + "-" + strconv.Itoa(i)
			if _, err := s.Certificate(ctx, thumbprint); err == nil {
				isRevoked(t, s, thumbprint, "", "", true)
			}
		}
	}
}

func revocations(t *testing.T, s authserver.Store) {
	ctx := t.Context()
	feed, since := "", int64(0)
	step := func(what string, limit int, want ...string) {
		t.Helper()
		page, err := s.Revocations(ctx, since, limit)
		must(t, "Revocations", err)
		var got []string
		for _, r := range page.Entries {
			name := cmp.Or(r.JTI, r.Certificate.Thumbprint, r.Certificate.IssuerKeyID+"/"+r.Certificate.Serial)
			if r.Restored {
				name += " restored"
			}
			got = append(got, name)
			if r.Number <= since || r.Number > page.Last {
				t.Errorf("%s: number %d after %d, last %d", what, r.Number, since, page.Last)
			}
			since = r.Number
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s: %q, want %q", what, got, want)
		}
		if feed == "" {
			feed = page.Feed
		}
		if page.Feed == "" || page.Feed != feed {
			t.Errorf("%s: feed %q, before %q", what, page.Feed, feed)
		}
	}
	remember(t, s, "t1", "aa", "1", "c", now)
	step("nothing happened", 10)
	must(t, "Revoke", s.Revoke(ctx, "jti", now.Add(time.Hour)))
	must(t, "Revoke again", s.Revoke(ctx, "jti", now.Add(time.Minute)))
	must(t, "RevokeCertificate", s.RevokeCertificate(ctx, byThumbprint("t0")))
	must(t, "RevokeCertificate again", s.RevokeCertificate(ctx, byThumbprint("t0")))
	step("a token and a certificate, each twice", 10, "jti", "t0")
	step("nothing happened since", 10)
	must(t, "RevokeCertificate", s.RevokeCertificate(ctx, byNumber("aa", "1")))
	step("one by one: the first", 1, "aa/1")
	step("one by one: the second", 1, "t1")
	must(t, "RestoreCertificate", s.RestoreCertificate(ctx, byNumber("aa", "1")))
	step("restored", 10, "aa/1 restored", "t1 restored")
	must(t, "RevokeCertificate", s.RevokeCertificate(ctx, byThumbprint("t1")))
	must(t, "Revoke until later", s.Revoke(ctx, "jti", now.Add(2*time.Hour)))
	step("again, and until later", 10, "t1", "jti")
	for _, limit := range []int{0, -1} {
		page, err := s.Revocations(ctx, 0, limit)
		must(t, "Revocations", err)
		if len(page.Entries) != 0 {
			t.Errorf("limit %d: %d entries", limit, len(page.Entries))
		}
	}
	last := since
	since = 0
	step("from the beginning, each once", 10, "t0", "aa/1 restored", "t1", "jti")
	if since != last {
		t.Errorf("the last number is %d, before it was %d", since, last)
	}
	since = last + 1000 // a number from the future is that of another feed
	step("after the end", 10)

	page, err := s.Revocations(ctx, 0, 10)
	must(t, "Revocations", err)
	if e := page.Entries[3]; !e.Expires.Equal(now.Add(2 * time.Hour)) {
		t.Errorf("the token expires at %v", e.Expires)
	}
	if e := page.Entries[2]; !e.Expires.IsZero() || !e.Certificate.At.Equal(now) {
		t.Errorf("the certificate, which has no end, is %+v", e)
	}
	_, err = s.Sweep(ctx, now.Add(3*time.Hour), 10)
	must(t, "Sweep", err)
	since = 0
	step("what has expired is swept", 10, "t0", "aa/1 restored", "t1")
	must(t, "Revoke", s.Revoke(ctx, "another", now.Add(4*time.Hour)))
	step("a number is not used again", 10, "another")
	if since <= last {
		t.Errorf("number %d after %d", since, last)
	}
}

func revocationsRace(t *testing.T, s authserver.Store) {
	ctx := t.Context()
	const writers, each = 4, 25
	done := make(chan struct{})
	go func() {
		defer close(done)
		race(writers, func(w int) bool {
			for i := range each {
				name := strconv.Itoa(w) + "-" + strconv.Itoa(i)
				err := s.Revoke(ctx, name, now.Add(time.Hour))
				if i%2 == 1 {
					err = s.RevokeCertificate(ctx, byThumbprint(name))
				}
				if err != nil {
					t.Errorf("revoke: %v", err)
				}
			}
			return true
		})
	}()
	seen, last := make(map[string]bool), int64(0)
	for open := true; open; {
		select {
		case <-done:
			open = false
		default:
		}
		for {
			page, err := s.Revocations(ctx, last, 7)
			if err != nil {
				t.Fatalf("Revocations: %v", err)
			}
			for _, e := range page.Entries {
				seen[e.JTI+e.Certificate.Thumbprint], last = true, e.Number
			}
			if len(page.Entries) < 7 {
				break
			}
		}
	}
	// Of an odd number there are both: the token was revoked first.
	if len(seen) != writers*each {
		t.Errorf("the reader saw %d, want %d", len(seen), writers*each)
	}
}

package jws

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"github.com/go-jose/go-jose/v4"
)

// FuzzParse compares with go-jose. What we accept and verify, go-jose accepts with the
// same payload. The reverse is not so; we refuse more: see refusedOnPurpose.
func FuzzParse(f *testing.F) {
	good := signES256(f, goodHeader, claims)
	f.Add(good)
	f.Add(signES256(f, `{"alg":"ES256"}`, `{"a":1,"a":2}`))
	f.Add(signES256(f, `{"alg":"ES256","crit":["exp"]}`, `{}`))
	f.Add(signES256(f, `{"alg":"ES256","kid":"\u006b1"}`, `[]`))
	f.Add(good + "=")
	f.Add(strings.Replace(good, ".", "..", 1))
	f.Add(b64(`{"alg":"none"}`) + "." + b64("{}") + ".")
	f.Add("e30.e30.AA")
	key := testKeys()[ES256].Public()
	algs := []jose.SignatureAlgorithm{jose.ES256, jose.PS256, jose.RS256, jose.EdDSA}
	f.Fuzz(func(t *testing.T, compact string) {
		token, err := Parse(compact, limit)
		if err != nil {
			if token != nil {
				t.Errorf("token beside error %v", err)
			}
			if !isError(err) {
				t.Errorf("undeclared error type %T: %v", err, err)
			}
			return
		}
		if !json.Valid(token.Payload) {
			t.Errorf("accepted payload that is not JSON: %q", token.Payload)
		}
		// Accepted text re-encodes to itself.
		header, _, _ := strings.Cut(compact, ".")
		if got := header + "." + b64(string(token.Payload)) + "." + b64(string(token.sig)); got != compact {
			t.Errorf("%q re-encodes to %q", compact, got)
		}
		object, err := jose.ParseSignedCompact(compact, algs)
		if err != nil {
			t.Fatalf("go-jose refuses what we parse: %v: %q", err, compact)
		}
		if object.Signatures[0].Header.Algorithm != token.Alg || object.Signatures[0].Header.KeyID != token.Kid {
			t.Errorf("go-jose reads alg %q and kid %q, we %q and %q", object.Signatures[0].Header.Algorithm,
				object.Signatures[0].Header.KeyID, token.Alg, token.Kid)
		}
		if token.Alg != ES256 {
			return
		}
		payload, joseErr := object.Verify(key)
		if err := token.Verify(key); (err == nil) != (joseErr == nil) {
			t.Errorf("we say %v, go-jose %v", err, joseErr)
		} else if err == nil && !bytes.Equal(payload, token.Payload) {
			t.Errorf("payload differs from go-jose's")
		}
	})
}

// FuzzPayload signs arbitrary JSON, so that the fuzzer gets past the signature, and
// compares the scanner with encoding/json.
func FuzzPayload(f *testing.F) {
	for _, s := range []string{
		claims, `{}`, `{"a":[1,-0.5e3,true,null,"\u00e9\ud83d\ude00"]}`, `{"a":1,"\u0061":1}`, `{"cnf":{"a":1,"A":2}}`,
		`{"a":01}`, "{\"\xff\":1}", `{"a":{"b":{"c":[]}}}`, `{"k":1,"` + "\u212A" + `":2}`, `{"a":"\ud800"}`,
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, payload string) {
		if len(payload) > 4096 {
			return
		}
		fault := scanObject([]byte(payload), "cnf", nil)
		var members map[string]json.RawMessage
		err := json.Unmarshal([]byte(payload), &members)
		if fault == "" {
			if err != nil || members == nil {
				t.Fatalf("accepted what encoding/json refuses: %v", err)
			}
			// No two members may be one to a decoder that folds case.
			n := 0
			if fault := scanObject([]byte(payload), "cnf", func(_, _ []byte) { n++ }); fault != "" || n != len(members) {
				t.Errorf("%d members, encoding/json has %d; %s", n, len(members), fault)
			}
			return
		}
		if err == nil && members != nil && !refusedOnPurpose(fault) {
			t.Errorf("refused (%s) what encoding/json accepts: %q", fault, payload)
		}
	})
}

// refusedOnPurpose lists why we refuse what encoding/json accepts.
func refusedOnPurpose(fault string) bool {
	switch fault {
	case "a member stands twice", "two members differ only in case", "not UTF-8", "half a surrogate pair",
		"nested too deep", "too many members":
		return true
	}
	return false
}

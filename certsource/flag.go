package certsource

import (
	"net/http"
	"strings"

	"github.com/certbound/certbound/decision"
)

// An outcome is what a hop says of the client's certificate in a field of its own.
type outcome uint8

const (
	outcomeUnknown    outcome = iota // nothing that this hop says: refused
	outcomeNone                      // there is no certificate
	outcomePresent                   // there is one
	outcomeFailed                    // there is one that the hop could not verify
	outcomeUnverified                // the hop has not verified one; perhaps there is none
	outcomeNotRevoked                // the hop knows of no revocation; perhaps there is none
	outcomeVerified                  // there is one that the hop has verified
	outcomeRevoked                   // there is one that the hop knows to be revoked
)

// A flag is a field in which a hop states an outcome.
type flag struct {
	name  string
	judge func(value string) outcome
	good  string // what the hop states of a certificate that is in order
	// vacuous says that the hop states success for a connection without certificate, too.
	vacuous bool
}

// judgeWords reads what nginx and its relatives say: SUCCESS, FAILED:reason, NONE, and
// of Apache GENEROUS, for a certificate that was taken without verification.
func judgeWords(value string) outcome {
	switch {
	case value == "SUCCESS":
		return outcomeVerified
	case value == "FAILED", strings.HasPrefix(value, "FAILED:"), value == "GENEROUS":
		return outcomeFailed
	case value == "NONE":
		return outcomeNone
	}
	return outcomeUnknown
}

// judgeNumber reads a number of X509_verify_cert, or its name: 0 and X509_V_OK mean
// verified, and any other is a fault.
func judgeNumber(value string) outcome {
	switch {
	case value == "0" || value == "X509_V_OK" || value == "ok":
		return outcomeVerified
	case strings.HasPrefix(value, "X509_V_ERR_"):
		return outcomeFailed
	case value == "" || len(value) > 6 || value[0] == '0' || strings.Trim(value, "0123456789") != "":
		return outcomeUnknown
	}
	return outcomeFailed
}

// judgeAny reads words or numbers.
func judgeAny(value string) outcome {
	if o := judgeWords(value); o != outcomeUnknown {
		return o
	}
	return judgeNumber(value)
}

// judgeBool reads true, false, 1 and 0.
func judgeBool(yes, no outcome) func(string) outcome {
	return func(value string) outcome {
		switch value {
		case "true", "1":
			return yes
		case "false", "0":
			return no
		}
		return outcomeUnknown
	}
}

// weigh compares what the hop says with what it has sent. The certificate counts as
// verified if every flag that can say so does.
func (s *presetSource) weigh(r *http.Request, present bool) (verified bool, err error) {
	verified = s.verification.By != ""
	for _, f := range s.flags {
		values := r.Header[f.name]
		if len(values) == 0 || values[0] == "" || s.absent(values[0]) {
			if present {
				return false, s.because(decision.SourceUnverified, f.name, "missing beside %s", s.names[0])
			}
			continue
		}
		got := f.judge(values[0])
		switch {
		case got == outcomeUnknown:
			return false, s.fault(f.name, "a value that %s does not send", s.preset.Title)
		case present && got == outcomeNone:
			return false, s.because(decision.SourceContradiction, f.name, "says that there is no certificate, but %s has one", s.names[0])
		case !present && (got == outcomePresent || got == outcomeFailed || got == outcomeVerified && !f.vacuous || got == outcomeRevoked):
			return false, s.because(decision.SourceContradiction, f.name, "says that there is a certificate, but %s has none; it may be too large for the hop", s.names[0])
		case got == outcomeRevoked:
			return false, s.because(decision.Revoked, f.name, "the hop knows the certificate to be revoked")
		case got == outcomeFailed || got == outcomeUnverified:
			verified = false
		}
	}
	return verified, nil
}

package oauthclient

import "strings"

// A challenge is one of a WWW-Authenticate field (RFC 9110, Section 11.6.1). The names of
// its parameters are in lower case.
type challenge struct {
	scheme string
	params map[string]string
}

const maxChallenges = 32

// parseChallenges reads what it can of the field: a list of challenges whose commas also
// separate their parameters. Where a line does not parse, its rest is left out.
func parseChallenges(lines []string) (out []challenge) {
	for _, line := range lines {
		p := challengeParser{s: line, first: true}
		for len(out) < maxChallenges {
			p.skip(" \t,")
			name := p.token()
			if name == "" {
				break // the end, or what is no challenge
			}
			p.skip(" \t")
			if p.peek() == '=' { // a parameter of the challenge before
				p.i++
				p.skip(" \t")
				value, ok := p.value()
				if !ok || p.first {
					break
				}
				params := out[len(out)-1].params
				if key := strings.ToLower(name); len(params) < maxChallenges {
					if _, twice := params[key]; !twice {
						params[key] = value
					}
				}
				continue
			}
			out = append(out, challenge{name, make(map[string]string)})
			p.first = false
			p.token68()
		}
	}
	return out
}

type challengeParser struct {
	s     string
	i     int
	first bool // no challenge in this line yet
}

func (p *challengeParser) peek() byte {
	if p.i < len(p.s) {
		return p.s[p.i]
	}
	return 0
}

func (p *challengeParser) skip(set string) {
	for p.i < len(p.s) && strings.IndexByte(set, p.s[p.i]) >= 0 {
		p.i++
	}
}

func (p *challengeParser) token() string {
	start := p.i
	for p.i < len(p.s) && isTokenChar(p.s[p.i]) {
		p.i++
	}
	return p.s[start:p.i]
}

func (p *challengeParser) value() (string, bool) {
	if p.peek() != '"' {
		v := p.token()
		return v, v != ""
	}
	var b strings.Builder
	for p.i++; p.i < len(p.s); p.i++ {
		switch c := p.s[p.i]; c {
		case '"':
			p.i++
			return b.String(), true
		case '\\':
			if p.i++; p.i == len(p.s) {
				return "", false
			}
			b.WriteByte(p.s[p.i])
		default:
			b.WriteByte(c)
		}
	}
	return "", false
}

// token68 skips credentials that stand in place of parameters, as in "Negotiate abc==".
func (p *challengeParser) token68() {
	rest := p.s[p.i:]
	end := 0
	for end < len(rest) && (isTokenChar(rest[end]) || rest[end] == '/') {
		end++
	}
	for end < len(rest) && rest[end] == '=' {
		end++
	}
	after := strings.TrimLeft(rest[end:], " \t")
	if after == "" || after[0] == ',' {
		p.i += end
	}
}

func isTokenChar(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || strings.IndexByte("!#$%&'*+-.^_`|~", c) >= 0
}

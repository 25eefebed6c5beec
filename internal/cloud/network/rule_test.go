package network

import (
	"fmt"
	"strings"
	"testing"

	"github.com/lingyun-cloud/lingyun/internal/fabric"
	"github.com/lingyun-cloud/lingyun/internal/retcode"
)

func TestRuleForms(t *testing.T) {
	for text, want := range map[string]string{
		"TCP|80|0.0.0.0/0|ACCEPT|HIGH|1":                "TCP|80|0.0.0.0/0|ACCEPT|HIGH|1",
		"tcp | 443,80 | any | accept | low | 0 ":        "TCP|80,443|0.0.0.0/0|ACCEPT|LOW|0",
		"UDP|1-10,5-20,21,30|10.1.2.3/24|DROP|MEDIUM|1": "UDP|1-21,30|10.1.2.0/24|DROP|MEDIUM|1",
		"TCP|1-65535|10.1.2.3|DROP|MEDIUM|1":            "TCP|1-65535|10.1.2.3/32|DROP|MEDIUM|1",
		"ALL TCP|||ACCEPT|MEDIUM|1":                     "TCP|1-65535|0.0.0.0/0|ACCEPT|MEDIUM|1",
		"ALL UDP||any|ACCEPT|MEDIUM|1":                  "UDP|1-65535|0.0.0.0/0|ACCEPT|MEDIUM|1",
		"ALL|||ACCEPT|MEDIUM|0":                         "ALL||0.0.0.0/0|ACCEPT|MEDIUM|0",
		"ALL||vpc|ACCEPT|MEDIUM|1":                      "ALL||VPC|ACCEPT|MEDIUM|1",
		"ICMP||10.0.0.0/8|ACCEPT|MEDIUM|1":              "ICMP||10.0.0.0/8|ACCEPT|MEDIUM|1",
		"ICMPv4|||ACCEPT|MEDIUM|1":                      "ICMP||0.0.0.0/0|ACCEPT|MEDIUM|1",
		"PING|||ACCEPT|MEDIUM|1":                        "ICMP||0.0.0.0/0|ACCEPT|MEDIUM|1",
		"ICMPv6|||ACCEPT|MEDIUM|1":                      "ICMPv6||::/0|ACCEPT|MEDIUM|1",
		"TCP|80|2001:db8::1|ACCEPT|MEDIUM|1":            "TCP|80|2001:db8::1/128|ACCEPT|MEDIUM|1",
		"GRE||192.0.2.1|ACCEPT|MEDIUM|1":                "GRE||192.0.2.1/32|ACCEPT|MEDIUM|1",
		"FTP|||ACCEPT|MEDIUM|1":                         "TCP|21|0.0.0.0/0|ACCEPT|MEDIUM|1",
		"SSH|22||ACCEPT|MEDIUM|1|":                      "TCP|22|0.0.0.0/0|ACCEPT|MEDIUM|1",
		"HTTP|||ACCEPT|MEDIUM|1":                        "TCP|80|0.0.0.0/0|ACCEPT|MEDIUM|1",
		"HTTPS|||ACCEPT|MEDIUM|1":                       "TCP|443|0.0.0.0/0|ACCEPT|MEDIUM|1",
		"RDP|||ACCEPT|MEDIUM|1":                         "TCP|3389|0.0.0.0/0|ACCEPT|MEDIUM|1",
		"OpenVPN|||ACCEPT|MEDIUM|1":                     "UDP|1194|0.0.0.0/0|ACCEPT|MEDIUM|1",
		"PPTP|||ACCEPT|MEDIUM|1":                        "TCP|1723|0.0.0.0/0|ACCEPT|MEDIUM|1 GRE||0.0.0.0/0|ACCEPT|MEDIUM|1",
	} {
		rows, err := parseRules([]string{text})
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		var got []string
		for i := range rows {
			got = append(got, rows[i].String())
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%s: got %s, want %s", text, got, want)
		}
	}
}

func TestRuleRefusals(t *testing.T) {
	for text, want := range map[string]retcode.Code{
		"":                                     retcode.InvalidParameterFormat,
		"TCP":                                  retcode.InvalidParameterFormat,
		"TCP|80|any|ACCEPT|HIGH":               retcode.InvalidParameterFormat,
		"TCP|80|any|ACCEPT|HIGH|1|x|y":         retcode.InvalidParameterFormat,
		"TCP||any|ACCEPT|HIGH|1":               retcode.InvalidParameterFormat,
		"TCP|http|any|ACCEPT|HIGH|1":           retcode.InvalidParameterFormat,
		"TCP|80,|any|ACCEPT|HIGH|1":            retcode.InvalidParameterFormat,
		"TCP|1-2-3|any|ACCEPT|HIGH|1":          retcode.InvalidParameterFormat,
		"TCP|80|10.0.0.0/33|ACCEPT|HIGH|1":     retcode.InvalidParameterFormat,
		"TCP|80|somewhere|ACCEPT|HIGH|1":       retcode.InvalidParameterFormat,
		"TCP|80|fe80::1%eth0|ACCEPT|HIGH|1":    retcode.InvalidParameterFormat,
		"TCP|80|::ffff:10.0.0.1|ACCEPT|HIGH|1": retcode.InvalidParameterFormat,
		"TCP|0|any|ACCEPT|HIGH|1":              retcode.InvalidParameter,
		"TCP|65536|any|ACCEPT|HIGH|1":          retcode.InvalidParameter,
		"TCP|90-80|any|ACCEPT|HIGH|1":          retcode.InvalidParameter,
		"SCTP|80|any|ACCEPT|HIGH|1":            retcode.InvalidParameter,
		"ICMP|80|any|ACCEPT|HIGH|1":            retcode.InvalidParameter,
		"SSH|23|any|ACCEPT|HIGH|1":             retcode.InvalidParameter,
		"PPTP|1723|any|ACCEPT|HIGH|1":          retcode.InvalidParameter,
		"TCP|80|any|ALLOW|HIGH|1":              retcode.InvalidParameter,
		"TCP|80|any|ACCEPT|URGENT|1":           retcode.InvalidParameter,
		"TCP|80|any|ACCEPT|HIGH|in":            retcode.InvalidParameter,
		"TCP|80|any|ACCEPT|HIGH|1|sg_rule-a":   retcode.InvalidParameter,
		"ICMP||2001:db8::/32|ACCEPT|HIGH|1":    retcode.InvalidParameter,
		"ICMPv6||10.0.0.0/8|ACCEPT|HIGH|1":     retcode.InvalidParameter,
	} {
		_, err := parseRules([]string{"ALL||any|ACCEPT|LOW|0", text})
		if retcode.Of(err) != want || err == nil || !strings.Contains(err.Error(), fmt.Sprintf("%q", text)) {
			t.Errorf("%q: got %v, want %d naming the rule", text, err, want)
		}
	}
}

func TestRulesThatMeet(t *testing.T) {
	first := "TCP|80,81-90|10.0.0.0/8|ACCEPT|HIGH|1"
	for text, meets := range map[string]bool{
		first:                             true,
		"TCP|80-90|10.0.0.0/8|DROP|LOW|1": true, // the contrary
		"TCP|81,80,82-90|10.9.9.9/8|ACCEPT|LOW|1": true, // the same, spelled otherwise
		"TCP|80-90|10.0.0.0/8|ACCEPT|HIGH|0":      false,
		"UDP|80-90|10.0.0.0/8|ACCEPT|HIGH|1":      false,
		"TCP|80-91|10.0.0.0/8|ACCEPT|HIGH|1":      false,
		"TCP|80-90|10.0.0.0/9|ACCEPT|HIGH|1":      false,
	} {
		_, err := parseRules([]string{first, text})
		if (retcode.Of(err) == retcode.SGRuleDuplicated) != meets {
			t.Errorf("%s after %s: %v", text, first, err)
		}
	}
}

func TestRulesBySide(t *testing.T) {
	rows, err := parseRules([]string{"ALL||VPC|ACCEPT|MEDIUM|1", "TCP|22,80-81|10.0.0.0/8|DROP|HIGH|0", "ALL TCP||any|ACCEPT|LOW|1"})
	if err != nil {
		t.Fatal(err)
	}
	inside, ok, err := rows[0].fabricRule(fabric.Inner, nil)
	if err != nil || !ok || inside.Remote != nil || !inside.Accept || !inside.Ingress || inside.Protocol != fabric.AnyProtocol {
		t.Errorf("VPC on the inner side: %+v, %v, %v", inside, ok, err)
	}
	if _, ok, _ := rows[0].fabricRule(fabric.Outer, nil); ok {
		t.Error("VPC means something on the outer side")
	}
	for _, side := range []fabric.Side{fabric.Inner, fabric.Outer} {
		r, ok, err := rows[1].fabricRule(side, nil)
		if err != nil || !ok || r.Accept || r.Ingress || r.Priority != fabric.High || fmt.Sprint(r.Ports, r.Remote) != "[{22 22} {80 81}] [10.0.0.0/8]" {
			t.Errorf("%s: %+v, %v, %v", side, r, ok, err)
		}
		if r, ok, err := rows[2].fabricRule(side, nil); err != nil || !ok || r.Ports != nil {
			t.Errorf("all ports on the %s side: %+v, %v, %v", side, r, ok, err)
		}
	}
}

func FuzzRule(f *testing.F) {
	f.Add("TCP|80,443,1-2|10.0.0.0/8|ACCEPT|HIGH|1")
	f.Add("ALL||VPC|DROP|LOW|0|")
	f.Fuzz(func(t *testing.T, text string) {
		rows, err := parseRules([]string{text})
		if err != nil {
			if retcode.Of(err) == retcode.ServiceError {
				t.Fatal(err)
			}
			return
		}
		for i := range rows { // what was read is read again as the same
			again, err := parseRules([]string{strings.Replace(rows[i].String(), "TCP|1-65535|", "ALL TCP||", 1)})
			if err != nil || len(again) != 1 || again[0].String() != rows[i].String() {
				t.Fatalf("%q became %s, which became %v, %v", text, &rows[i], again, err)
			}
			for _, side := range []fabric.Side{fabric.Inner, fabric.Outer} {
				if _, _, err := rows[i].fabricRule(side, nil); err != nil {
					t.Fatal(err)
				}
			}
		}
	})
}

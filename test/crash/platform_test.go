package crash

import (
	"encoding/base64"
	"fmt"
)

// pair is a tag as requests have it, of few.
func (u *user) pair() string {
	code := base64.StdEncoding.EncodeToString
	return code([]byte(named)) + ":" + code(fmt.Append(nil, u.random.IntN(4)))
}

func ofVMTag(u *user) p {
	return p{"ResourceType": "VM", "ResourceIDs": []string{u.a(vms)}, "KeyValuePairs": []string{u.pair()}}
}

var tagDeeds = product{
	"CreateTag": {ask: func(u *user) p { return p{"Key": named, "Values": []string{fmt.Sprint(u.random.IntN(4))}} }},
	"DeleteTag": {after: after("CreateTag", "UnBindTag"), often: 2, ask: func(u *user) p { return p{"Key": named, "Value": fmt.Sprint(u.random.IntN(4))} }},
	"BindTag":   {often: 2, ask: ofVMTag},
	"UnBindTag": {after: after("BindTag"), ask: ofVMTag},
	"SetResourceTags": {ask: func(u *user) p {
		return p{"ResourceType": "VM", "ResourceID": u.a(vms), "KeyValuePairs": []string{u.pair()}}
	}},
}

// atOnce is a job that runs now.
func atOnce(u *user) p {
	return p{"Name": named, "Type": "TIMER_TYPE_ONCE", "TriggerTime": 1, "ResourceIDs": []string{u.a(disks, "Bound", "Unbound")}, "KeepNum": 1}
}

var timerDeeds = product{
	"CreateTimer": {often: 2, ask: func(u *user) p { return with(atOnce(u), p{"Task": "CreateSnapshot"}) }},
	"UpdateTimer": {after: after("CreateTimer"), ask: func(u *user) p { return with(atOnce(u), p{"TimerID": u.a(timers)}) }},
	"DeleteTimer": {after: after("CreateTimer"), often: 2, ask: func(u *user) p { return p{"TimerID": u.a(timers)} }},
}

var recycleDeeds = product{
	"RollbackResource":  {after: after("DeleteVMInstance", "DeleteDisk", "ReleaseEIP", "DeleteCustomImage"), often: 4, ask: func(u *user) p { return p{"ResourceID": u.a(binned, "Deleted")} }},
	"TerminateResource": {after: after("DeleteVMInstance", "DeleteDisk", "ReleaseEIP", "DeleteCustomImage"), often: 12, ask: func(u *user) p { return p{"ResourceID": u.a(binned, "Deleted")} }},
}

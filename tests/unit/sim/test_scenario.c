/* Files of scenarios: what they mean, and how a mistake in one is reported. */
#include "tests/lib/test.h"

#include <errno.h>

#include <string.h>

#include "tests/sim/faults.h"
#include "tests/sim/scenario.h"

static struct scenario scenario;
static char why[SCENARIO_WHY_MAX];

static void refused(const char *text, const char *expected)
{
    assert_int_equal(scenario_parse(&scenario, text, why), -EINVAL);
    assert_string_equal(why, expected);
}

static void what_is_not_said_has_a_default(void **state)
{
    (void)state;
    assert_int_equal(scenario_parse(&scenario, "[workload mixed]\n", why), 0);
    assert_int_equal(scenario.n_workloads, 1);
    assert_int_equal(scenario_most(&scenario.mons), 5);
    assert_int_equal(scenario_most(&scenario.seconds), 60 * SEC_NS);
    assert_int_equal(scenario_most(&scenario.workloads[0].slots), 2);
    assert_int_equal(scenario_most(&scenario.workloads[0].read), 38);
    assert_int_equal(scenario_most(&scenario.linear), 1);
    for (int i = 0; i < fault_count(); i++)
        assert_int_equal(scenario.faults[i], 0);
}

static void values_are_choices_with_units_and_weights(void **state)
{
    (void)state;
    const char *text = "# A comment.\n"
                       "[cluster]\n"
                       "  osds = 3..5@4, 8 # And another.\n"
                       "work = 1500ms\n"
                       "[workload large]\n"
                       "length = 0..6M, 4k@2\n"
                       "[faults]\n"
                       "every = 1s\n"
                       "osd-dies = 7\n"
                       "[check]\n"
                       "copies = no\n";
    assert_int_equal(scenario_parse(&scenario, text, why), 0);
    assert_int_equal(scenario.osds.n, 2);
    assert_int_equal(scenario.osds.choices[0].low, 3);
    assert_int_equal(scenario.osds.choices[0].high, 5);
    assert_int_equal(scenario.osds.choices[0].weight, 4);
    assert_int_equal(scenario.osds.choices[1].low, 8);
    assert_int_equal(scenario.osds.choices[1].high, 8);
    assert_int_equal(scenario_most(&scenario.seconds), 1500 * MSEC_NS);
    assert_int_equal(scenario_most(&scenario.workloads[0].length), 6 * 1024 * 1024);
    assert_int_equal(scenario.workloads[0].length.choices[1].low, 4096);
    assert_int_equal(scenario.faults[fault_by_name("osd-dies")], 7);
    assert_int_equal(scenario_most(&scenario.copies), 0);
}

static void mistakes_are_reported_with_their_line(void **state)
{
    (void)state;
    refused("osds = 3\n", "line 1: 'osds' comes before the first [section]");
    refused("[clusters]\n", "line 1: there is no section [clusters]");
    refused("[cluster\n", "line 1: ']' is missing");
    refused("[cluster]\nods = 3\n", "line 2: [cluster] has no 'ods'");
    refused("[cluster]\nosds\n", "line 2: 'osds' is neither [section] nor key = value");
    refused("[cluster]\nosds = 3\n\nosds = 4\n", "line 4: osds is there twice");
    refused("[cluster]\n[cluster]\n", "line 2: [cluster] is there twice");
    refused("[cluster]\nosds = many\n", "line 2: osds wants a number, not 'many'");
    refused("[cluster]\nosds = 3s\n", "line 2: osds wants a plain number, not 's'");
    refused("[cluster]\nosds = 0\n", "line 2: osds is out of its range");
    refused("[cluster]\nosds = 5..3\n", "line 2: osds wants the smaller number first");
    refused("[cluster]\nosds = 3 4\n",
            "line 2: osds: ',' or the end of the line is expected before '4'");
    refused("[cluster]\nwork = 60\n", "line 2: work wants us, ms or s after a number, not ''");
    refused("[workload dance]\n", "line 1: there is no workload 'dance'");
    refused("[workload mixed]\nlength = 5G\n",
            "line 2: length wants k, M or nothing after a number, not 'G'");
    refused("[workload ballast]\nfirst = maybe\n", "line 2: first wants yes or no, not 'maybe'");
    refused("[faults]\nosd-dances = 3\n", "line 2: there is no fault 'osd-dances'");
    refused("[faults]\nosd-dies = 3\nosd-dies = 3\n", "line 3: osd-dies is there twice");
    refused("[cluster]\n", "line 1: the scenario ends without a workload");
    refused("[cluster]\nosds = 3@0\n", "line 2: a weight is out of its range");
    refused("[cluster]\nwork = 99999999999999999999s\n", "line 2: work is too large");
}

static void a_file_that_is_not_there_is_named(void **state)
{
    (void)state;
    assert_true(scenario_load(&scenario, "no-such-scenario", why) < 0);
    assert_non_null(strstr(why, "no-such-scenario.txt: No such file"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_not_said_has_a_default),
        cmocka_unit_test(values_are_choices_with_units_and_weights),
        cmocka_unit_test(mistakes_are_reported_with_their_line),
        cmocka_unit_test(a_file_that_is_not_there_is_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

#include "tests/lib/test.h"

#include <errno.h>
#include <string.h>

#include "common/metrics.h"

static void knows_values_to_two_percent(void **state)
{
    (void)state;
    for (uint64_t value = 1; value < UINT64_C(1) << 41; value = value * 17 / 13 + 1) {
        static struct histogram h;
        histogram_reset(&h);
        histogram_record(&h, value);
        histogram_record(&h, value * 2);
        uint64_t found = histogram_percentile(&h, 50);
        assert_true(found >= value && (double)found <= (double)value * 1.016);
    }
}

static void percentiles_of_a_known_distribution(void **state)
{
    (void)state;
    static struct histogram h;
    histogram_reset(&h);
    for (uint64_t i = 1; i <= 10000; i++)
        histogram_record(&h, i * 1000);
    static const double percents[] = {1, 10, 50, 90, 99, 99.9};
    for (size_t i = 0; i < sizeof percents / sizeof percents[0]; i++) {
        double exact = percents[i] * 100 * 1000;
        double found = (double)histogram_percentile(&h, percents[i]);
        assert_true(found >= exact && found <= exact * 1.016);
    }
    assert_int_equal(histogram_percentile(&h, 0), 1000);
    assert_int_equal(histogram_percentile(&h, 100), 10000000);
    assert_true(histogram_mean(&h) == 5000500.0);
}

static void extremes_have_a_place(void **state)
{
    (void)state;
    static struct histogram h;
    histogram_reset(&h);
    assert_int_equal(histogram_percentile(&h, 50), 0);
    assert_true(histogram_mean(&h) == 0);
    histogram_record(&h, 0);
    assert_int_equal(histogram_percentile(&h, 99), 0);
    histogram_record(&h, UINT64_MAX);
    assert_true(h.max == (UINT64_C(1) << HISTOGRAM_VALUE_BITS) - 1);
    assert_true(histogram_percentile(&h, 99) == h.max);
    assert_int_equal(h.min, 0);
}

static void merging_is_recording_in_one(void **state)
{
    (void)state;
    static struct histogram a;
    static struct histogram b;
    static struct histogram both;
    histogram_reset(&a);
    histogram_reset(&b);
    histogram_reset(&both);
    for (uint64_t i = 0; i < 1000; i++) {
        histogram_record(i % 3 == 0 ? &a : &b, i * i + 5);
        histogram_record(&both, i * i + 5);
    }
    histogram_merge(&a, &b);
    assert_memory_equal(&a, &both, sizeof a);
    static struct histogram empty;
    histogram_merge(&a, &empty);
    assert_memory_equal(&a, &both, sizeof a);
    histogram_merge(&empty, &both);
    assert_memory_equal(&empty, &both, sizeof empty);
}

static void shows_all_as_json(void **state)
{
    (void)state;
    static struct metrics metrics;
    static struct histogram h;
    uint64_t ops = 3;
    histogram_record(&h, 5000);
    assert_int_equal(metrics_add_counter(&metrics, "ops", &ops), 0);
    assert_int_equal(metrics_add_histogram(&metrics, "latency_us", &h), 0);
    assert_int_equal(metrics_add_counter(&metrics, "ops", &ops), -EEXIST);
    ops = 4;
    json_t *json = metrics_json(&metrics);
    assert_non_null(json);
    assert_int_equal(json_integer_value(json_object_get(json, "ops")), 4);
    const json_t *latency = json_object_get(json, "latency_us");
    assert_int_equal(json_integer_value(json_object_get(latency, "count")), 1);
    assert_true(json_real_value(json_object_get(latency, "p99")) == 5.0);
    json_decref(json);
}

static void refuses_more_than_its_bounds(void **state)
{
    (void)state;
    static struct metrics metrics;
    uint64_t value = 0;
    char name[METRICS_NAME_MAX + 2];
    memset(name, 'x', sizeof name);
    name[METRICS_NAME_MAX + 1] = '\0';
    assert_int_equal(metrics_add_counter(&metrics, name, &value), -ENAMETOOLONG);
    for (int i = 0; i < METRICS_MAX; i++) {
        snprintf(name, sizeof name, "n%d", i);
        assert_int_equal(metrics_add_counter(&metrics, name, &value), 0);
    }
    assert_int_equal(metrics_add_counter(&metrics, "more", &value), -ENOSPC);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(knows_values_to_two_percent),
        cmocka_unit_test(percentiles_of_a_known_distribution),
        cmocka_unit_test(extremes_have_a_place),
        cmocka_unit_test(merging_is_recording_in_one),
        cmocka_unit_test(shows_all_as_json),
        cmocka_unit_test(refuses_more_than_its_bounds),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
